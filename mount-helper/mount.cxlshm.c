/* SPDX-License-Identifier: MIT */
/*
 * mount.cxlshm: what mount(8) runs for `mount -t cxlshm`.
 *
 *   mount.cxlshm SOURCE TARGET [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]
 *
 * becomes `cxlshmfs -o OPTIONS SOURCE TARGET`, which returns when the mount answers and has mount(8)'s exit
 * status.  Words that are meant for mount(8) and systemd only are dropped.  With size= in the options
 * mkfs.cxlshm makes the pool first, if there is none, after cxlshmfs has said that the options and paths are
 * right.  If the mount fails all the same the pool stays: somebody else may be using it by then.  Knows no
 * pool: a directory that is missing or empty holds none.
 *
 * It is also installed as mount.fuse.cxlshm, which is the name that mount(8) looks for on a remount.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARRAY_LENGTH(a) (sizeof(a) / sizeof((a)[0]))

enum {	/* mount(8) */
	EXIT_MOUNTED = 0,
	EXIT_USAGE = 1,
	EXIT_SYSTEM = 2,
	EXIT_USER = 8,
	EXIT_MOUNT = 32
};

struct request {
	const char *source;
	const char *target;
	char *options;	/* for the daemon: words with commas between them */
	const char *size;	/* of a pool to be made; NULL: it must exist */
	const char *numa, *mode, *group;	/* of it */
	int sloppy, fake, verbose, remount, bind;
};

/* Says it; returns status. */
static int complain(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int complain(int status, const char *format, ...)
{
	va_list args;

	fputs("mount.cxlshm: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return status;
}

static void usage(FILE *to)
{
	fputs("usage: mount.cxlshm POOL MOUNTPOINT [-fnsv] [-N namespace] [-o options] [-t type]\n"
	      "\n"
	      "Mount the pool of shared memory in directory POOL; usually called by mount -t cxlshm.\n"
	      "\n"
	      "  -f  only check that it could be mounted     -n  ignored: there is no mtab\n"
	      "  -s  skip options that are not known         -v  print the commands that are run\n"
	      "  -h  this text                               -V  version\n"
	      "  -N NAMESPACE  mount in that mount namespace (a file like /proc/PID/ns/mnt)\n"
	      "  -t TYPE       cxlshm or fuse.cxlshm\n"
	      "\n"
	      "  -o ro, allow_other, default_permissions (always on), uid=N, gid=N, umask=OCTAL,\n"
	      "     max_threads=N, attr_timeout=S, entry_timeout=S, sparse; size=SIZE: make the pool if\n"
	      "     there is none, and for that numa=POLICY, mode=OCTAL, group=GROUP; and the generic\n"
	      "     options of mount(8).\n"
	      "     See mount.cxlshm(8).\n", to);
}

/* ---------------------------------------------------------------- options */

/* Is the word the name, alone or with a value behind '='? */
static int is(const char *word, const char *name, int with_value)
{
	size_t n = strlen(name);

	return !strncmp(word, name, n) && word[n] == (with_value ? '=' : 0);
}

static int is_one_of(const char *word, const char *const *names, size_t count, int with_value)
{
	for (size_t i = 0; i < count; i++)
		if (is(word, names[i], with_value))
			return 1;
	return 0;
}

/* For mount(8), systemd and people; no file system ever sees them.  group=GROUP, with a value, is the pool's. */
static int is_for_others(const char *word)
{
	static const char *const words[] = {
		"defaults", "auto", "noauto", "nouser", "nousers", "noowner", "nogroup", "user", "users", "owner",
		"group", "nofail", "_netdev",
	};
	static const char *const values[] = { "user", "comment", "uhelper", "helper" };

	return !strncasecmp(word, "x-", 2) || is_one_of(word, words, ARRAY_LENGTH(words), 0) ||
	       is_one_of(word, values, ARRAY_LENGTH(values), 1);
}

/* What cxlshmfs takes; only asked with -s, otherwise it is the one to refuse. */
static int is_known(const char *word)
{
	static const char *const words[] = {
		"ro", "rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "atime", "noatime", "diratime",
		"nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime", "sync", "async", "dirsync",
		"silent", "loud", "lazytime", "nolazytime", "iversion", "noiversion", "mand", "nomand",
		"allow_other", "default_permissions", "sparse",
	};
	static const char *const values[] = {
		"uid", "gid", "umask", "size", "numa", "mode", "group", "max_threads", "attr_timeout",
		"entry_timeout",
	};

	return is_one_of(word, words, ARRAY_LENGTH(words), 0) || is_one_of(word, values, ARRAY_LENGTH(values), 1);
}

static void take_word(struct request *r, const char *word)
{
	if (is(word, "remount", 0))
		r->remount = 1;
	if (is(word, "bind", 0) || is(word, "rbind", 0) || is(word, "move", 0))
		r->bind = 1;
	if (is_for_others(word) || (r->sloppy && !is_known(word)))
		return;
	if (is(word, "size", 1))
		r->size = word + 5;
	if (is(word, "numa", 1))
		r->numa = word + 5;
	if (is(word, "mode", 1))
		r->mode = word + 5;
	if (is(word, "group", 1))
		r->group = word + 6;
	strcat(strcat(r->options, word), ",");
}

/* Each word of each -o.  numa=interleave:0,1 goes on over commas with a digit behind them. */
static int take_options(struct request *r, char **lists, int count)
{
	size_t room = 1;

	for (int i = 0; i < count; i++)
		room += strlen(lists[i]) + 1;
	r->options = calloc(1, room);
	if (!r->options)
		return complain(EXIT_SYSTEM, "out of memory");
	for (int i = 0; i < count; i++) {
		char *word = lists[i];

		while (*word) {
			char *end = word + strcspn(word, ",");

			while (!strncmp(word, "numa=", 5) && *end && end[1] >= '0' && end[1] <= '9')
				end += 1 + strcspn(end + 1, ",");
			if (*end)
				*end++ = 0;
			if (*word)
				take_word(r, word);
			word = end;
		}
	}
	if (*r->options)
		r->options[strlen(r->options) - 1] = 0;
	return 0;
}

/* mount -N: the rest happens in that mount namespace. */
static int enter_namespace(const char *name)
{
	int fd = open(name, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || setns(fd, CLONE_NEWNS) != 0)
		return complain(EXIT_SYSTEM, "-N %s: %s", name, strerror(errno));
	close(fd);
	return 0;
}

/* -1: go on; otherwise the status to exit with. */
static int parse(int argc, char **argv, struct request *r)
{
	char **lists = calloc((size_t)argc + 1, sizeof(char *));
	const char *ns = NULL;
	int count = 0, c, rc = 0;

	if (!lists)
		return complain(EXIT_SYSTEM, "out of memory");
	while (rc == 0 && (c = getopt(argc, argv, "sfnvN:o:t:hV")) != -1) {
		switch (c) {
		case 's':
			r->sloppy = 1;
			break;
		case 'f':
			r->fake = 1;
			break;
		case 'v':
			r->verbose = 1;
			break;
		case 'n':
			break;
		case 'N':
			ns = optarg;
			break;
		case 'o':
			lists[count++] = optarg;
			break;
		case 't':
			if (strcmp(optarg, "cxlshm") && strcmp(optarg, "fuse.cxlshm"))
				rc = complain(EXIT_USAGE, "-t %s: this mounts cxlshm", optarg);
			break;
		case 'h':
			usage(stdout);
			free(lists);
			return EXIT_MOUNTED;
		case 'V':
			puts("mount.cxlshm " CXLSHM_VERSION);
			free(lists);
			return EXIT_MOUNTED;
		default:
			usage(stderr);
			rc = EXIT_USAGE;
		}
	}
	if (rc == 0 && argc - optind != 2) {
		usage(stderr);
		rc = EXIT_USAGE;
	}
	if (rc == 0) {
		r->source = argv[optind];
		r->target = argv[optind + 1];
		rc = take_options(r, lists, count);
	}
	if (rc == 0 && ns)
		rc = enter_namespace(ns);
	free(lists);
	return rc ? rc : -1;
}

/* ---------------------------------------------------------------- programs */

/*
 * Where a program of ours is: beside this one, in the bin of the same prefix, in the build folder, or in
 * PATH.  mount(8) calls helpers with the environment of whoever called it, so PATH comes last.
 */
static const char *find_program(const char *name, char *out, size_t size)
{
	static const char *const places[] = { "", "../bin/", "../sbin/", "../fs/" };
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n > 0) {
		self[n] = 0;
		*(strrchr(self, '/') + 1) = 0;
		for (size_t i = 0; i < ARRAY_LENGTH(places); i++)
			if ((size_t)snprintf(out, size, "%s%s%s", self, places[i], name) < size &&
			    access(out, X_OK) == 0)
				return out;
	}
	return name;
}

static void tell_command(char *const *argv)
{
	for (; *argv; argv++)
		fprintf(stderr, "%s%c", *argv, argv[1] ? ' ' : '\n');
}

/* Run it and wait: its exit status, EXIT_SYSTEM if it cannot be run, EXIT_USER if it was interrupted. */
static int run(char *const *argv)
{
	pid_t child = fork();
	int status;

	if (child < 0)
		return complain(EXIT_SYSTEM, "%s: %s", argv[0], strerror(errno));
	if (child == 0) {
		execvp(argv[0], argv);
		fprintf(stderr, "mount.cxlshm: %s: %s\n", argv[0], strerror(errno));
		_exit(EXIT_SYSTEM);
	}
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return EXIT_SYSTEM;
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	return WTERMSIG(status) == SIGINT ? EXIT_USER :
	       complain(EXIT_SYSTEM, "%s: died of signal %d", argv[0], WTERMSIG(status));
}

/* ---------------------------------------------------------------- mounting */

/* 1: missing or empty, 0: something is there, or cannot be looked at. */
static int no_pool(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	int empty = 1;

	if (!dir)
		return errno == ENOENT;
	while (empty && (entry = readdir(dir)))
		empty = !strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..");
	closedir(dir);
	return empty;
}

static int check_target(const char *target)
{
	struct stat st;

	if (stat(target, &st) == 0)
		return S_ISDIR(st.st_mode) ? 0 :
		       complain(EXIT_MOUNT, "%s: the mount point is not a directory", target);
	if (errno == ENOTCONN)
		return complain(EXIT_MOUNT, "%s: a dead daemon's mount is still there; umount it first "
				"(umount -l %s)", target, target);
	return complain(EXIT_MOUNT, "%s: the mount point: %s", target, strerror(errno));
}

/* The daemon knows its options, and which places cannot work.  It looks before a pool is made for a mount that they would
 * only fail. */
static int check(const struct request *r)
{
	char program[PATH_MAX + 64];
	char *argv[] = { (char *)find_program("cxlshmfs", program, sizeof(program)), "--check", "-o", r->options, "--",
			 (char *)r->source, (char *)r->target, NULL };

	return run(argv);
}

/* Without privilege there is no tmpfs of its own: a plain pool. */
static int make_pool(const struct request *r)
{
	const char *const values[][2] = {
		{ "size", r->size }, { "numa", r->numa }, { "mode", r->mode }, { "group", r->group },
	};
	char program[PATH_MAX + 64];
	char *options[ARRAY_LENGTH(values)] = { NULL };
	char *argv[ARRAY_LENGTH(values) + 7];
	int n = 0, rc = 0;

	argv[n++] = (char *)find_program("mkfs.cxlshm", program, sizeof(program));
	for (size_t i = 0; i < ARRAY_LENGTH(values); i++) {
		if (!values[i][1])
			continue;
		if (asprintf(&options[i], "--%s=%s", values[i][0], values[i][1]) < 0) {
			options[i] = NULL;
			rc = complain(EXIT_SYSTEM, "out of memory");
			goto out;
		}
		argv[n++] = options[i];
	}
	if (geteuid() != 0)
		argv[n++] = "--plain";
	argv[n++] = "--if-missing";
	if (!r->verbose)
		argv[n++] = "--quiet";
	argv[n++] = "--";
	argv[n++] = (char *)r->source;
	argv[n] = NULL;
	if (r->verbose)
		tell_command(argv);
	rc = run(argv);
	if (rc && rc != EXIT_SYSTEM && rc != EXIT_USER)
		rc = EXIT_MOUNT;
out:
	for (size_t i = 0; i < ARRAY_LENGTH(values); i++)
		free(options[i]);
	return rc;
}

static int mount_pool(const struct request *r)
{
	char program[PATH_MAX + 64];
	char *argv[8];
	int n = 0;

	argv[n++] = (char *)find_program("cxlshmfs", program, sizeof(program));
	if (*r->options) {
		argv[n++] = "-o";
		argv[n++] = r->options;
	}
	argv[n++] = "--";
	argv[n++] = (char *)r->source;
	argv[n++] = (char *)r->target;
	argv[n] = NULL;
	if (r->verbose)
		tell_command(argv);
	return run(argv);
}

int main(int argc, char **argv)
{
	struct request r = { .source = NULL };
	int rc = parse(argc, argv, &r);

	if (rc >= 0)
		goto out;
	if (r.remount)
		rc = complain(EXIT_MOUNT, "%s: remount is not supported: umount it and mount it again with the new "
			      "options", r.target);
	else if (r.bind)
		rc = complain(EXIT_USAGE, "%s: bind and move need no -t cxlshm", r.target);
	else
		rc = check_target(r.target);
	if (rc == 0 && (r.fake || r.size))
		rc = check(&r);
	if (rc == 0 && r.fake) {
		if (!r.size && no_pool(r.source))
			rc = complain(EXIT_MOUNT, "%s: no pool here; mkfs.cxlshm makes one", r.source);
		goto out;
	}
	if (rc == 0 && r.size)
		rc = make_pool(&r);
	if (rc == 0)
		rc = mount_pool(&r);
out:
	free(r.options);
	return rc;
}
