/* SPDX-License-Identifier: MIT */
/*
 * holder: a process whose only hold on a file is a mapping.  (Python's mmap keeps a descriptor of its own, so that the file
 * is not closed before the munmap.)
 *
 *   holder PATH MODE [MORE...]
 *
 * MODE is shared, readonly (shared, PROT_READ), private (nothing stored, so that its pages are the file's), fork (shared; the
 * child stays, the parent has exited) or open (shared, and the descriptor stays open).  When all of PATH is mapped it
 * answers with its process id, and then each line of its input with one line:
 *   read OFFSET LENGTH   the bytes           store OFFSET TEXT   ok
 *   check                same: all of them are as they were at the start and as stored since; or which is not
 *   munmap               done
 * It ends with its input.  MORE files are mapped, shared, and closed as well; nothing is asked about them.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct holder {
	char *map, *copy;
	size_t size;
};

static int fail(const char *what)
{
	perror(what);
	return 1;
}

static void check(const struct holder *h)
{
	for (size_t i = 0; i < h->size; i++)
		if (h->map[i] != h->copy[i]) {
			printf("byte %zu is 0x%02x, not 0x%02x\n", i, (unsigned char)h->map[i], (unsigned char)h->copy[i]);
			return;
		}
	printf("same\n");
}

static void run(struct holder *h, char *line)
{
	const char *command = strtok(line, " "), *offset = strtok(NULL, " "), *rest = strtok(NULL, "");
	size_t at = offset ? strtoull(offset, NULL, 0) : 0;

	if (!command)
		return;
	if (!h->map || at > h->size) {
		printf("nothing is mapped there\n");
	} else if (!strcmp(command, "read")) {
		size_t length = rest ? strtoull(rest, NULL, 0) : 0;

		printf("%.*s\n", (int)(length < h->size - at ? length : h->size - at), h->map + at);
	} else if (!strcmp(command, "store") && rest && strlen(rest) <= h->size - at) {
		memcpy(h->map + at, rest, strlen(rest));
		memcpy(h->copy + at, rest, strlen(rest));
		printf("ok\n");
	} else if (!strcmp(command, "check")) {
		check(h);
	} else if (!strcmp(command, "munmap")) {
		printf(munmap(h->map, h->size) ? "munmap fails\n" : "done\n");
		h->map = NULL;
	} else {
		printf("unknown command %s\n", command);
	}
}

/* Map it, close it unless the mode says not to, and keep a copy of what it was. */
static int hold(struct holder *h, const char *path, const char *mode, char **more)
{
	int readonly = !strcmp(mode, "readonly");
	int fd = open(path, (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		return fail(path);
	h->size = (size_t)st.st_size;
	h->map = mmap(NULL, h->size, readonly ? PROT_READ : PROT_READ | PROT_WRITE,
		      !strcmp(mode, "private") ? MAP_PRIVATE : MAP_SHARED, fd, 0);
	if (h->map == MAP_FAILED)
		return fail("mmap");
	h->copy = malloc(h->size);
	if (!h->copy)
		return fail("malloc");
	memcpy(h->copy, h->map, h->size);
	if (strcmp(mode, "open") && close(fd))
		return fail("close");
	for (; *more; more++) {
		fd = open(*more, O_RDWR | O_CLOEXEC);
		if (fd < 0 || mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED || close(fd))
			return fail(*more);
	}
	if (!strcmp(mode, "fork")) {
		pid_t child = fork();

		if (child < 0)
			return fail("fork");
		if (child)
			_exit(0);
	}
	return 0;
}

int main(int argc, char **argv)
{
	static const char *const modes[] = {"shared", "readonly", "private", "fork", "open"};
	struct holder h = {NULL, NULL, 0};
	char line[4096];
	size_t i = 0;

	while (argc >= 3 && i < 5 && strcmp(argv[2], modes[i]))
		i++;
	if (argc < 3 || i == 5)
		return fprintf(stderr, "usage: holder PATH shared|readonly|private|fork|open [MORE...]\n"), 2;
	if (hold(&h, argv[1], argv[2], argv + 3))
		return 1;
	printf("%d\n", (int)getpid());
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = 0;
		run(&h, line);
		fflush(stdout);
	}
	free(h.copy);
	return 0;
}
