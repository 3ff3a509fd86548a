/* SPDX-License-Identifier: MIT */
/*
 * options.c: the command line of cxlshmfs.
 *
 * Owns the table of -o options.  An option is a word, or a word and a value behind '='; the words that
 * mount(8) and fstab(5) pass to every helper are known, those that mean nothing here are accepted and
 * ignored, and everything else is refused by name.  Of two options that contradict each other the
 * later one counts, as for mount(8).
 * Threads: called before the first thread starts.
 */
#include "options.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cxlshm.h"

/* What a pool can have: see cxlshm_pool_create(). */
#define SIZE_MIN (1ull << 20)
#define SIZE_MAX_BYTES (1ull << 47)

#define ARRAY_LENGTH(a) (sizeof(a) / sizeof((a)[0]))

#define VERSION_STRING_(a, b, c) #a "." #b "." #c
#define VERSION_STRING(a, b, c) VERSION_STRING_(a, b, c)

static const char options_help[] =
	"usage: cxlshmfs [-f] [-d] [--check] [-o options] POOL MOUNTPOINT\n"
	"\n"
	"  POOL        directory of a pool made by mkfs.cxlshm (or made now, with -o size=)\n"
	"  MOUNTPOINT  directory to show its objects in, as files\n"
	"\n"
	"  -f, --foreground  do not become a daemon\n"
	"  -d, --debug       print every request; implies -f\n"
	"  -h, --help        this text\n"
	"  -V, --version     version of cxlshm\n"
	"  --check           check options and paths, and do nothing\n"
	"  -o, --options=OPTION[,OPTION...]\n"
	"\n"
	"  -o ro, allow_other, default_permissions (always on), sparse\n"
	"  -o uid=N, gid=N, umask=OCTAL     owner and permissions to show for every file\n"
	"  -o size=BYTES[K|M|G|T] or N%     make the pool if there is none (N% of the memory),\n"
	"     numa=POLICY, mode=OCTAL, group=GROUP  as mkfs.cxlshm does with these\n"
	"  -o max_threads=N                 requests served at once (default 32)\n"
	"  -o attr_timeout=S, entry_timeout=S  seconds the kernel may cache (default 0)\n"
	"  and the generic options of mount(8): rw suid nosuid dev nodev exec noexec noatime ...\n"
	"  See mount.cxlshm(8).\n"
	"\n"
	"Exit status: 0 mounted and answering, 1 usage, 2 system error, 32 mount failure.\n";

/* Words that set or clear mount flags, and words that need nothing done. */
static const struct option_word {
	const char *word;
	unsigned long set;
	unsigned long clear;
} option_words[] = {
	{"ro", MS_RDONLY, 0},
	{"rw", 0, MS_RDONLY},
	{"suid", 0, MS_NOSUID},
	{"nosuid", MS_NOSUID, 0},
	{"dev", 0, 0},	/* there are no device nodes in a pool */
	{"nodev", MS_NODEV, 0},
	{"exec", 0, MS_NOEXEC},
	{"noexec", MS_NOEXEC, 0},
	{"atime", 0, MS_NOATIME},
	{"noatime", MS_NOATIME, 0},
	{"diratime", 0, MS_NODIRATIME},
	{"nodiratime", MS_NODIRATIME, 0},
	{"relatime", MS_RELATIME, 0},
	{"norelatime", 0, MS_RELATIME},
	{"strictatime", MS_STRICTATIME, 0},
	{"nostrictatime", 0, MS_STRICTATIME},
	{"sync", MS_SYNCHRONOUS, 0},
	{"async", 0, MS_SYNCHRONOUS},
	{"dirsync", MS_DIRSYNC, 0},
	{"user", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0},
	{"users", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0},
	{"owner", MS_NOSUID | MS_NODEV, 0},
	{"group", MS_NOSUID | MS_NODEV, 0},
	{"nouser", 0, 0},
	{"nousers", 0, 0},
	{"noowner", 0, 0},
	{"nogroup", 0, 0},
	{"defaults", 0, 0},
	{"auto", 0, 0},
	{"noauto", 0, 0},
	{"nofail", 0, 0},
	{"_netdev", 0, 0},
	{"silent", 0, 0},
	{"loud", 0, 0},
	{"lazytime", 0, 0},	/* times are in memory anyway */
	{"nolazytime", 0, 0},
	{"iversion", 0, 0},
	{"noiversion", 0, 0},
	{"mand", 0, 0},	/* Linux itself has had no mandatory locks since 5.15 */
	{"nomand", 0, 0},
	{"default_permissions", 0, 0},	/* always on: nobody else could check them */
};

static int fail_usage(const char *what, const char *option)
{
	fprintf(stderr, "cxlshmfs: %s '%s'\n", what, option);
	return OPTIONS_EXIT_USAGE;
}

static int fail_unknown(const char *option)
{
	fprintf(stderr, "cxlshmfs: unknown option '%s'; see mount.cxlshm(8), or cxlshmfs --help\n", option);
	return OPTIONS_EXIT_USAGE;
}

/* Take the place of *slot, freeing what was there. */
static int set_string(char **slot, const char *value)
{
	char *copy = strdup(value);

	if (!copy) {
		fprintf(stderr, "cxlshmfs: out of memory\n");
		return OPTIONS_EXIT_SYSTEM;
	}
	free(*slot);
	*slot = copy;
	return -1;
}

/* A number in the given base up to max; false if there is anything else in text. */
static bool parse_number(const char *text, int base, uint64_t max, uint64_t *value)
{
	char *end;
	unsigned long long number;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	number = strtoull(text, &end, base);
	if (errno || *end || number > max)
		return false;
	*value = number;
	return true;
}

/* Bytes, with a K, M, G or T behind them, or so many % of the memory: what mkfs.cxlshm --size takes. */
static bool parse_size(const char *text, uint64_t *bytes)
{
	static const char units[] = "KMGT";
	unsigned long long number;
	unsigned shift = 0;
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	number = strtoull(text, &end, 10);
	if (errno || end == text)
		return false;
	if (!strcmp(end, "%")) {
		if (!number || number > 100)
			return false;
		*bytes = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / 100 * number;
		return true;
	}
	if (*end) {
		char upper = (char)(*end >= 'a' ? *end - 32 : *end);
		const char *unit = strchr(units, upper);

		if (!unit || (end[1] && strcasecmp(end + 1, "b") && strcasecmp(end + 1, "ib")))
			return false;
		shift = 10 * (unsigned)(unit - units + 1);
	}
	if (!number || number > (UINT64_MAX >> 1 >> shift))
		return false;
	*bytes = (uint64_t)number << shift;
	return true;
}

/* What mkfs.cxlshm --numa takes: bind:, interleave:, preferred: and nodes like 0,2-3; cxl.  Which nodes there are, and
 * with memory, the library says when it makes the pool. */
static bool is_numa_policy(const char *text)
{
	static const char *const words[] = {"bind:", "interleave:", "preferred:"};

	for (size_t i = 0; i < ARRAY_LENGTH(words); i++) {
		if (strncmp(text, words[i], strlen(words[i])))
			continue;
		text += strlen(words[i]);
		for (;;) {
			size_t digits = strspn(text, "0123456789");

			text += digits;
			if (!digits || !*text)
				return digits;
			if (*text != ',' && *text != '-')
				return false;
			text++;
		}
	}
	return !strcmp(text, "cxl");
}

/* A group by its name or number. */
static bool parse_group(const char *text, gid_t *gid)
{
	struct group *found = getgrnam(text);
	uint64_t number;

	if (!found && !parse_number(text, 10, UINT32_MAX - 1, &number))
		return false;
	*gid = found ? found->gr_gid : (gid_t)number;
	return true;
}

static bool parse_seconds(const char *text, double *seconds)
{
	char *end;
	double value;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	value = strtod(text, &end);
	if (errno || *end || !(value >= 0 && value <= 1e9))
		return false;
	*seconds = value;
	return true;
}

/* WORD=VALUE, both known to be there.  Returns -1 to go on, or the status to exit with. */
static int set_value(struct options *options, const char *option, size_t word_length, const char *value)
{
	uint64_t number;
#define IS(word) (word_length == sizeof(word) - 1 && !memcmp(option, word, word_length))
	if (IS("uid")) {
		if (!parse_number(value, 10, UINT32_MAX - 1, &number))
			return fail_usage("not a user number (a number, not a name):", option);
		options->show_uid = true;
		options->uid = (uid_t)number;
	} else if (IS("gid")) {
		if (!parse_number(value, 10, UINT32_MAX - 1, &number))
			return fail_usage("not a group number (a number, not a name):", option);
		options->show_gid = true;
		options->gid = (gid_t)number;
	} else if (IS("umask")) {
		if (!parse_number(value, 8, 0777, &number))
			return fail_usage("not an octal mask up to 777:", option);
		options->show_umask = true;
		options->umask = (mode_t)number;
	} else if (IS("size")) {
		if (!parse_size(value, &options->size_bytes))
			return fail_usage("not a size (bytes, with K, M, G or T, or N% of the memory):", option);
		if (options->size_bytes < SIZE_MIN || options->size_bytes > SIZE_MAX_BYTES)
			return fail_usage("a pool has at least 1M and at most 128T:", option);
	} else if (IS("numa")) {
		if (!is_numa_policy(value))
			return fail_usage("not bind:N, interleave:N,M, preferred:N or cxl:", option);
		return set_string(&options->numa, value);
	} else if (IS("mode")) {
		if (!parse_number(value, 8, 0666, &number) || (number & 0600) != 0600 || (number & ~0666ull))
			return fail_usage("not read and write bits in octal, with both for the owner, like 0660:",
					  option);
		options->pool_mode = (mode_t)number;
	} else if (IS("group")) {
		if (!parse_group(value, &options->pool_gid))
			return fail_usage("no such group:", option);
	} else if (IS("max_threads")) {
		if (!parse_number(value, 10, 1024, &number) || !number)
			return fail_usage("not a number of threads from 1 to 1024:", option);
		options->max_threads = (unsigned)number;
	} else if (IS("attr_timeout")) {
		if (!parse_seconds(value, &options->attr_timeout_s))
			return fail_usage("not a number of seconds:", option);
	} else if (IS("entry_timeout")) {
		if (!parse_seconds(value, &options->entry_timeout_s))
			return fail_usage("not a number of seconds:", option);
	} else if (!IS("comment")) {
		return fail_unknown(option);
	}
#undef IS
	return -1;
}

static int set_option(struct options *options, const char *option)
{
	const char *value = strchr(option, '=');

	if (!strncasecmp(option, "x-", 2))
		return -1;
	if (value)
		return set_value(options, option, (size_t)(value - option), value + 1);
	if (!strcmp(option, "allow_other")) {
		options->allow_other = true;
		return -1;
	}
	if (!strcmp(option, "sparse")) {
		options->sparse = true;
		return -1;
	}
	if (!strcmp(option, "remount")) {
		options->remount = true;
		return -1;
	}
	for (size_t i = 0; i < ARRAY_LENGTH(option_words); i++) {
		if (!strcmp(option, option_words[i].word)) {
			options->mount_flags |= option_words[i].set;
			options->mount_flags &= ~option_words[i].clear;
			return -1;
		}
	}
	return fail_unknown(option);
}

/*
 * The words of one -o argument: split at commas, except that numa=interleave:0,1 goes on over commas
 * that are followed by a digit.
 */
static int set_options(struct options *options, char *list)
{
	while (*list) {
		char *end = list + strcspn(list, ",");
		int status = -1;

		if (!strncmp(list, "numa=", 5))
			while (*end == ',' && end[1] >= '0' && end[1] <= '9')
				end += 1 + strcspn(end + 1, ",");
		if (*end)
			*end++ = 0;
		if (*list)
			status = set_option(options, list);
		if (status >= 0)
			return status;
		list = end;
	}
	return -1;
}

int options_parse(struct options *options, int argc, char **argv)
{
	static const struct option long_options[] = {
		{"foreground", no_argument, NULL, 'f'},
		{"debug", no_argument, NULL, 'd'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{"options", required_argument, NULL, 'o'},
		{"check", no_argument, NULL, 'c'},
		{NULL, 0, NULL, 0},
	};
	int letter, status;

	*options = (struct options){
		.max_threads = 32,
		.pool_gid = (gid_t)-1,
		.mount_flags = MS_NOSUID | MS_NODEV,
	};
	while ((letter = getopt_long(argc, argv, "fdhVo:", long_options, NULL)) != -1) {
		switch (letter) {
		case 'd':
			options->debug = true;
			options->foreground = true;
			break;
		case 'f':
			options->foreground = true;
			break;
		case 'c':
			options->check = true;
			break;
		case 'h':
			fputs(options_help, stdout);
			return 0;
		case 'V':
			puts("cxlshmfs " VERSION_STRING(CXLSHM_VERSION_MAJOR, CXLSHM_VERSION_MINOR,
							CXLSHM_VERSION_PATCH));
			return 0;
		case 'o':
			status = set_options(options, optarg);
			if (status >= 0)
				return status;
			break;
		default:
			fprintf(stderr, "cxlshmfs: try 'cxlshmfs --help'\n");
			return OPTIONS_EXIT_USAGE;
		}
	}
	if (argc - optind != 2) {
		fprintf(stderr, "cxlshmfs: expected POOL and MOUNTPOINT; try 'cxlshmfs --help'\n");
		return OPTIONS_EXIT_USAGE;
	}
	if (!argv[optind][0] || !argv[optind + 1][0]) {
		fprintf(stderr, "cxlshmfs: the %s is empty; try 'cxlshmfs --help'\n", argv[optind][0] ? "mount point" : "pool");
		return OPTIONS_EXIT_USAGE;
	}
	status = set_string(&options->pool, argv[optind]);
	if (status < 0)
		status = set_string(&options->mountpoint, argv[optind + 1]);
	if (status >= 0)
		return status;
	if (options->remount) {
		fprintf(stderr, "cxlshmfs: %s: remount is not supported; umount it and mount it again\n",
			options->mountpoint);
		return OPTIONS_EXIT_MOUNT;
	}
	if (!options->size_bytes && (options->numa || options->pool_mode || options->pool_gid != (gid_t)-1)) {
		fprintf(stderr, "cxlshmfs: %s= is used when the pool is made, which needs size= too\n",
			options->numa ? "numa" : options->pool_mode ? "mode" : "group");
		return OPTIONS_EXIT_USAGE;
	}
	return -1;
}

static int fail_path(const char *path, const char *why)
{
	fprintf(stderr, "cxlshmfs: %s: %s\n", path, why);
	return OPTIONS_EXIT_MOUNT;
}

/* Is a cxlshm file system mounted exactly there?  mountinfo writes a blank as \040. */
static bool is_mounted(const char *path)
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	char *line = NULL;
	size_t size = 0;
	bool found = false;

	if (!file)
		return false;
	while (!found && getline(&line, &size, file) > 0) {
		char *where = line, *type = strstr(line, " - ");
		const char *at = path;

		if (!type || strncmp(type + 3, "fuse.cxlshm ", 12))
			continue;
		for (int field = 0; field < 4 && where; field++) {
			where = strchr(where, ' ');
			where += where != NULL;
		}
		while (where && *where && *where != ' ' && *at) {
			char byte = *where++;

			if (byte == '\\' && where[0] && where[1] && where[2]) {
				byte = (char)(((where[0] - '0') << 6) | ((where[1] - '0') << 3) |
					      (where[2] - '0'));
				where += 3;
			}
			if (byte != *at)
				break;
			at++;
		}
		found = where && *where == ' ' && !*at;
	}
	free(line);
	fclose(file);
	return found;
}

/* Is path inside folder, or the same?  Both absolute and without links. */
static bool is_inside(const char *path, const char *folder)
{
	size_t length = strlen(folder);

	if (length == 1)
		return true;
	return !strncmp(path, folder, length) && (path[length] == 0 || path[length] == '/');
}

/* Where the path will be when it is made: what there is of it without links, and the rest as it stands.  NULL: errno. */
static char *resolve_missing(const char *path)
{
	char *head = strdup(path), *found = NULL, *whole = NULL;
	size_t length = head ? strlen(head) : 0;

	while (head && !found) {
		while (length > 1 && head[length - 1] == '/')
			length--;
		while (length && head[length - 1] != '/')
			length--;
		head[length] = 0;
		found = realpath(length ? head : ".", NULL);
		if (!found && (errno != ENOENT || length <= 1))
			break;
	}
	if (found && asprintf(&whole, "%s%s%s", found, found[1] ? "/" : "", path + length) < 0)
		whole = NULL;
	for (length = whole ? strlen(whole) : 0; length > 1 && whole[length - 1] == '/'; length--)
		whole[length - 1] = 0;
	free(found);
	free(head);
	return whole;
}

static int resolve_mountpoint(struct options *options)
{
	struct stat st;
	char *path;

	if (stat(options->mountpoint, &st)) {
		if (errno == ENOTCONN || errno == ECONNABORTED)
			return fail_path(options->mountpoint,
					 "a dead daemon's mount is still there; umount it first (umount -l)");
		return fail_path(options->mountpoint, errno == ENOENT ?
				 "the mount point does not exist" : strerror(errno));
	}
	if (!S_ISDIR(st.st_mode))
		return fail_path(options->mountpoint, "the mount point is not a directory");
	path = realpath(options->mountpoint, NULL);
	if (!path)
		return fail_path(options->mountpoint, strerror(errno));
	free(options->mountpoint);
	options->mountpoint = path;
	if (is_mounted(path))
		return fail_path(path, "the mount point is busy: a cxlshm pool is mounted there already");
	return -1;
}

int options_resolve(struct options *options)
{
	int status = resolve_mountpoint(options);
	bool missing;
	struct stat st;
	char *path;

	if (status >= 0)
		return status;
	missing = stat(options->pool, &st) != 0;
	if (missing && (errno != ENOENT || !options->size_bytes))
		return fail_path(options->pool, errno == ENOENT ?
				 "no such pool (mkfs.cxlshm makes one, or -o size=)" : strerror(errno));
	if (!missing && !S_ISDIR(st.st_mode))
		return fail_path(options->pool, "not a directory, so not a pool");
	path = missing ? resolve_missing(options->pool) : realpath(options->pool, NULL);
	if (!path)
		return fail_path(options->pool, strerror(errno));
	free(options->pool);
	options->pool = path;
	if (is_inside(options->pool, options->mountpoint))
		return fail_path(options->mountpoint, "mounting here would hide the pool itself");
	if (is_inside(options->mountpoint, options->pool))
		return fail_path(options->mountpoint, "the mount point is inside the pool's own directory");
	if (!missing || options->check)
		return -1;
	options->made_directory = !mkdir(options->pool, 0755);
	if (!options->made_directory && errno != EEXIST) {
		fprintf(stderr, "cxlshmfs: %s: cannot make the pool's directory: %s\n", options->pool, strerror(errno));
		return OPTIONS_EXIT_MOUNT;
	}
	return -1;
}

void options_free(struct options *options)
{
	free(options->pool);
	free(options->mountpoint);
	free(options->numa);
}
