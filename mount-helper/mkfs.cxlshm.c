/* SPDX-License-Identifier: MIT */
/*
 * mkfs.cxlshm: make a pool, by default on a tmpfs of its own, and take it away again.
 *
 * The pool itself is made and removed by the library.  Here: options, the directory, the tmpfs, and giving
 * back what was mounted or made when a later step fails.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "cxlshm.h"
#include "tmpfs.h"

#define SIZE_MIN (1ull << 20)
#define BUSY_TRIES 40	/* of 25 ms: umount(8) returns before the daemon has ended */
#define LOCK_TRIES 400	/* likewise */
#define LOCK_FILE "/run/cxlshm.lock"

struct request {
	const char *pool;	/* as given */
	char *path;	/* absolute, once it exists */
	struct cxlshm_pool_options make;
	int plain, remove, if_missing, quiet;
	int made_dir, mounted;	/* by us, to be undone on failure */
	int found;	/* --if-missing, and somebody else made it just now */
};

static int complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Says it; 1, the exit status of everything that fails. */
static int complain(const char *format, ...)
{
	va_list args;

	fputs("mkfs.cxlshm: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return 1;
}

static void usage(FILE *to)
{
	fputs("usage: mkfs.cxlshm [options] POOL\n"
	      "       mkfs.cxlshm --remove POOL\n"
	      "\n"
	      "Make a pool of shared memory in the directory POOL, on a tmpfs of its own.\n"
	      "\n"
	      "  --size=SIZE             of the pool: bytes, or with K, M, G, T; or N% of the memory (50%)\n"
	      "  --clients=N             client slots, 1 to 4093 (by the size, at most 1024)\n"
	      "  --mode=MODE             of the heap file (0660)\n"
	      "  --owner=USER            owner of the pool\n"
	      "  --group=GROUP           group whose members may map the pool\n"
	      "  --numa=POLICY           bind:N, interleave:N,M, preferred:N, or cxl: memory-only nodes\n"
	      "  --failure-domain=WHAT   process (default), or host: machines die on their own\n"
	      "  --plain                 take the directory as it is: no tmpfs, no privilege needed\n"
	      "  --force                 make the pool anew if there is one that nobody uses\n"
	      "  --if-missing            do nothing if there is a pool already\n"
	      "  --remove                take the pool away, if nobody uses it\n"
	      "  -q, --quiet             say nothing when all is well\n"
	      "  -h, --help              this text\n"
	      "  -V, --version\n", to);
}

static uint64_t memory_bytes(void)
{
	return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

static int parse_size(const char *text, uint64_t *bytes)
{
	static const char units[] = "KMGT";
	const char *unit;
	uint64_t n;
	char *end;

	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	errno = 0;
	n = strtoull(text, &end, 10);
	if (errno)
		return -EINVAL;
	if (!strcmp(end, "%")) {
		if (n == 0 || n > 100)
			return -EINVAL;
		*bytes = memory_bytes() / 100 * n;
		return 0;
	}
	unit = *end ? strchr(units, toupper((unsigned char)*end)) : NULL;
	if (unit) {
		unsigned shift = 10 * (unsigned)(unit - units + 1);

		if (n > UINT64_MAX >> shift)
			return -EINVAL;
		n <<= shift;
		end++;
		if (!strcasecmp(end, "b") || !strcasecmp(end, "ib"))
			return *bytes = n, 0;
	}
	if (*end)
		return -EINVAL;
	*bytes = n;
	return 0;
}

static int parse_number(const char *text, int base, uint64_t max, uint32_t *out)
{
	uint64_t n;
	char *end;

	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	errno = 0;
	n = strtoull(text, &end, base);
	if (errno || *end || n > max)
		return -EINVAL;
	*out = (uint32_t)n;
	return 0;
}

static int parse_owner(const char *text, uid_t *uid)
{
	struct passwd *found = getpwnam(text);

	if (!found)
		return parse_number(text, 10, UINT32_MAX - 1, uid);
	*uid = found->pw_uid;
	return 0;
}

static int parse_group(const char *text, gid_t *gid)
{
	struct group *found = getgrnam(text);

	if (!found)
		return parse_number(text, 10, UINT32_MAX - 1, gid);
	*gid = found->gr_gid;
	return 0;
}

/* 0, 1 to exit with, or -1: done, exit 0. */
static int parse(int argc, char **argv, struct request *r)
{
	enum { SIZE = 256, CLIENTS, MODE, OWNER, GROUP, NUMA, DOMAIN, PLAIN, FORCE, MISSING, REMOVE };
	static const struct option options[] = {
		{ "size", required_argument, NULL, SIZE },
		{ "clients", required_argument, NULL, CLIENTS },
		{ "mode", required_argument, NULL, MODE },
		{ "owner", required_argument, NULL, OWNER },
		{ "group", required_argument, NULL, GROUP },
		{ "numa", required_argument, NULL, NUMA },
		{ "failure-domain", required_argument, NULL, DOMAIN },
		{ "plain", no_argument, NULL, PLAIN },
		{ "force", no_argument, NULL, FORCE },
		{ "if-missing", no_argument, NULL, MISSING },
		{ "remove", no_argument, NULL, REMOVE },
		{ "quiet", no_argument, NULL, 'q' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	int making = 0, c;

	r->make.uid = (uid_t)-1;
	r->make.gid = (gid_t)-1;
	while ((c = getopt_long(argc, argv, "qhV", options, NULL)) != -1) {
		making |= c >= SIZE && c != REMOVE;
		switch (c) {
		case SIZE:
			if (parse_size(optarg, &r->make.size_bytes) || r->make.size_bytes < SIZE_MIN)
				return complain("--size=%s: not a size like 512M or 4G; at least 1M", optarg);
			break;
		case CLIENTS:
			/* The library knows the most. */
			if (parse_number(optarg, 10, UINT32_MAX, &r->make.client_slots) || !r->make.client_slots)
				return complain("--clients=%s: not a number of client slots", optarg);
			break;
		case MODE:
			if (parse_number(optarg, 8, 07777, &r->make.mode) || (r->make.mode & 0600) != 0600 ||
			    r->make.mode & ~0666u)
				return complain("--mode=%s: read and write bits in octal, with both for the "
						"owner, like 0660", optarg);
			break;
		case OWNER:
			if (parse_owner(optarg, &r->make.uid))
				return complain("--owner=%s: no such user", optarg);
			break;
		case GROUP:
			if (parse_group(optarg, &r->make.gid))
				return complain("--group=%s: no such group", optarg);
			break;
		case NUMA:
			r->make.numa = optarg;
			break;
		case DOMAIN:
			if (strcmp(optarg, "process") && strcmp(optarg, "host"))
				return complain("--failure-domain=%s: it is process or host", optarg);
			r->make.failure_domain = optarg[0] == 'h' ? CXLSHM_FAILURE_HOST : CXLSHM_FAILURE_PROCESS;
			break;
		case PLAIN:
			r->plain = 1;
			break;
		case FORCE:
			r->make.force = 1;
			break;
		case MISSING:
			r->if_missing = 1;
			break;
		case REMOVE:
			r->remove = 1;
			break;
		case 'q':
			r->quiet = 1;
			break;
		case 'h':
			usage(stdout);
			return -1;
		case 'V':
			printf("mkfs.cxlshm %d.%d.%d\n", CXLSHM_VERSION_MAJOR, CXLSHM_VERSION_MINOR,
			       CXLSHM_VERSION_PATCH);
			return -1;
		default:
			fputs("Try mkfs.cxlshm --help.\n", stderr);
			return 1;
		}
	}
	if (optind + 1 != argc) {
		complain(optind == argc ? "which POOL?" : "one POOL at a time, not also %s", argv[argc - 1]);
		usage(stderr);
		return 1;
	}
	if (r->remove && making)
		return complain("--remove takes no other options");
	if (r->if_missing && r->make.force)
		return complain("--force and --if-missing contradict each other");
	r->pool = argv[optind];
	if (!*r->pool)
		return complain("POOL is empty");
	return 0;
}

/* ---------------------------------------------------------------- the directory */

/* mkdir -p; *made if the last component is new. */
static int make_directory(const char *pool, int *made)
{
	char *path = strdup(pool), *slash;
	int rc = 0;

	if (!path)
		return -ENOMEM;
	for (slash = path + 1; rc == 0 && (slash = strchr(slash, '/')); slash++) {
		*slash = 0;
		if (mkdir(path, 0755) != 0 && errno != EEXIST)
			rc = -errno;
		*slash = '/';
	}
	if (rc == 0 && mkdir(path, 0755) == 0)
		*made = 1;
	else if (rc == 0 && errno != EEXIST)
		rc = -errno;
	free(path);
	return rc;
}

static int has(const char *dir, const char *name)
{
	char path[4096 + 64];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return lstat(path, &st) == 0;
}

/* The name of some entry, in out; 0 if it is empty. */
static int holds_something(const char *path, char *out, size_t size)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	int found = 0;

	while (dir && !found && (entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..")) {
			snprintf(out, size, "%s", entry->d_name);
			found = 1;
		}
	if (dir)
		closedir(dir);
	return found;
}

/*
 * The same of what is no part of a pool, in the directory or (folder "x/") in its folder of extents.  The library looks
 * for itself, but unmounting a tmpfs takes everything in it without asking.
 */
static int holds_foreign(const char *path, const char *folder, char *out, size_t size)
{
	char name[4096 + 8];
	DIR *dir;
	struct dirent *entry;
	int found = 0;

	snprintf(name, sizeof(name), "%s/%s", path, folder);
	dir = opendir(name);
	while (dir && !found && (entry = readdir(dir))) {
		const char *n = entry->d_name;

		if (!strcmp(n, ".") || !strcmp(n, ".."))
			continue;
		if (*folder)
			found = entry->d_type != DT_REG || strlen(n) != 16 || strspn(n, "0123456789abcdef") != 16;
		else
			found = !(!strcmp(n, "heap") && entry->d_type == DT_REG) && !(!strcmp(n, "x") && entry->d_type == DT_DIR);
		if (found)
			snprintf(out, size, "%s%s", folder, n);
	}
	if (dir)
		closedir(dir);
	return found;
}

static void pause_ms(long ms)
{
	struct timespec pause = { .tv_nsec = ms * 1000000 };
	int saved = errno;

	nanosleep(&pause, NULL);
	errno = saved;
}

/*
 * Two that mount a tmpfs in one place at once would hide each other's pool: the second one waits.  Only root can hold the
 * lock, which goes with this process.  Without a /run to have it in, there is none.
 */
static int lock_place(const char *path)
{
	int fd = open(LOCK_FILE, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	for (int i = 0; fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK; i++) {
		if (i == LOCK_TRIES)
			return complain("%s: another mkfs.cxlshm has held the lock " LOCK_FILE " for ten seconds (lslocks "
					"tells which); try again", path);
		pause_ms(25);
	}
	return 0;
}

/* ---------------------------------------------------------------- removing */

/*
 * Unmount the pool's own tmpfs, and the pool with it.  The kernel refuses while anybody has a file of it
 * open or mapped (a daemon or a native client has its heap open), and then nothing is lost.
 */
static int unmount_own(const char *path)
{
	char name[300];

	if (holds_foreign(path, "", name, sizeof(name)) || holds_foreign(path, "x/", name, sizeof(name)))
		return complain("%s/%s: not a file of a pool, so nothing is deleted; move it away, or delete it yourself, "
				"first", path, name);
	for (int i = 0; i < BUSY_TRIES; i++) {
		if (umount2(path, UMOUNT_NOFOLLOW) == 0)
			return 0;
		if (errno != EBUSY)
			break;
		pause_ms(25);
	}
	if (errno == EBUSY)
		return complain("%s: the pool is in use: mounted, or a program has a file of it open or mapped, or "
				"works in its directory (fuser -vm %s tells which)", path, path);
	return complain("%s: cannot unmount the pool's tmpfs: %s", path, strerror(errno));
}

static int remove_pool(struct request *r)
{
	struct cxlshm_error error;

	if (tmpfs_at(r->path) != TMPFS_OWN) {
		int rc = cxlshm_pool_remove(r->path, &error);

		for (int i = 1; rc == -EBUSY && i < BUSY_TRIES; i++) {
			pause_ms(25);
			rc = cxlshm_pool_remove(r->path, &error);
		}
		if (rc)
			return complain("%s", error.text);
	} else if (unmount_own(r->path)) {
		return 1;
	}
	rmdir(r->path);	/* unless something else is in it: it is made when it is missing */
	if (!r->quiet)
		printf("%s: removed\n", r->path);
	return 0;
}

/* ---------------------------------------------------------------- making */

/* Who may read may enter; what is in the directory itself, nobody but its owner changes. */
static mode_t directory_mode(const struct request *r)
{
	mode_t mode = r->make.mode ? r->make.mode : 0660;

	return 0700 | (mode & 0044) | (mode & 0044) >> 2;
}

static int size_check(struct request *r)
{
	struct statvfs fs;
	uint64_t most = memory_bytes();

	if (r->plain && statvfs(r->path, &fs) == 0) {
		uint64_t total = (uint64_t)fs.f_blocks * fs.f_frsize;

		if (!r->make.size_bytes)
			r->make.size_bytes = (uint64_t)fs.f_bavail * fs.f_frsize / 2 < most / 2 ?
					     (uint64_t)fs.f_bavail * fs.f_frsize / 2 : most / 2;
		if (total && r->make.size_bytes > total)
			return complain("%s: a pool of %" PRIu64 " bytes is larger than the file system it is "
					"on (%" PRIu64 ")", r->path, r->make.size_bytes, total);
		return 0;
	}
	if (!r->make.size_bytes)
		r->make.size_bytes = most / 2;
	if (r->make.size_bytes > most)
		return complain("%s: a pool of %" PRIu64 " bytes is larger than this machine's memory (%" PRIu64
				")", r->path, r->make.size_bytes, most);
	return 0;
}

/* --if-missing: what opening it for looking says. */
static int look(const struct request *r, struct cxlshm_error *error)
{
	struct cxlshm_pool *pool;
	int rc = cxlshm_pool_open(r->path, CXLSHM_READONLY, &pool, error);

	if (rc == 0)
		cxlshm_pool_close(pool);
	return rc;
}

/* Busy is waited for: it may just be made, as at boot, where two mounts of one pool may start at once. */
static int look_again(const struct request *r, struct cxlshm_error *error)
{
	int rc = look(r, error);

	for (int i = 1; rc == -EBUSY && i < BUSY_TRIES; i++) {
		pause_ms(25);
		rc = look(r, error);
	}
	return rc;
}

/* Make the pool in the directory as it is. */
static int create(struct request *r)
{
	struct cxlshm_error error = { "" };
	int rc = cxlshm_pool_create(r->path, &r->make, &error);

	/* Somebody else was faster, or what is there is damaged. */
	if (r->if_missing && (rc == -EBUSY || rc == -EEXIST)) {
		rc = look_again(r, &error);
		r->found = rc == 0;
	}
	return rc ? complain("%s", error.text) : 0;
}

/* Give the pool a tmpfs. */
static int own_tmpfs(struct request *r)
{
	struct tmpfs_options o = {
		.size_bytes = (r->make.size_bytes + 4095) & ~4095ull, .mode = directory_mode(r),
		.uid = r->make.uid, .gid = r->make.gid, .numa = r->make.numa,
	};
	int rc, swappable = 0;
	char name[256];

	switch (tmpfs_at(r->path)) {
	case TMPFS_OWN:
		/*
		 * Only the library can tell a pool from what was never finished, and takes that without force; what it
		 * makes in its place, as small as can be, goes with the tmpfs.
		 */
		if (!r->make.force && holds_something(r->path, name, sizeof(name))) {
			const struct cxlshm_pool_options wanted = r->make;

			r->make.size_bytes = 1 << 20;
			r->make.client_slots = 0;
			r->make.numa = NULL;
			rc = create(r);
			r->make = wanted;
			if (rc || r->found)
				return rc;
		}
		if (unmount_own(r->path))
			return 1;
		break;
	case TMPFS_OTHER:
		return complain("%s: something else is mounted here; --plain makes the pool in it", r->path);
	case TMPFS_NONE:
		break;
	}
	if (holds_something(r->path, name, sizeof(name)))
		return complain(has(r->path, "heap") ?
				"%s: holds a pool, or an unfinished one, without a tmpfs of its own (%s); --plain makes an "
				"unfinished one anew, --plain --force any" :
				"%s: holds other files (%s), which the pool's tmpfs would hide; use an empty "
				"directory", r->path, name);
	rc = tmpfs_mount(r->path, &o, &swappable);
	if (rc == -EPERM)
		return complain("%s: mounting a tmpfs needs root; without, use --plain in a directory on one "
				"(/dev/shm/...)", r->path);
	if (rc)
		return complain("%s: cannot mount a tmpfs: %s", r->path, strerror(-rc));
	r->mounted = 1;
	if (swappable && !r->quiet)
		fprintf(stderr, "mkfs.cxlshm: %s: the pool may go to swap (noswap needs Linux 6.4, and root "
			"outside of a user namespace)\n", r->path);
	return 0;
}

static void tell(const struct request *r)
{
	struct cxlshm_pool *pool;
	struct cxlshm_pool_info info;

	if (r->quiet || cxlshm_pool_open(r->path, CXLSHM_READONLY, &pool, NULL))
		return;
	if (cxlshm_pool_info(pool, &info) == 0)
		printf("%s: pool %s, %" PRIu64 " MiB in %" PRIu32 " segments, %" PRIu32 " client slots%s%s%s\n",
		       r->path, info.uuid, info.size_bytes >> 20, info.segments, info.client_slots,
		       info.numa[0] ? ", NUMA " : "", info.numa,
		       tmpfs_at(r->path) == TMPFS_OWN ? ", on a tmpfs of its own" : "");
	cxlshm_pool_close(pool);
}

static int make_pool(struct request *r)
{
	struct cxlshm_error error = { "" };

	if (r->if_missing && has(r->path, "heap")) {
		int rc = look_again(r, &error);

		if (rc == 0)
			return 0;
		/* Damaged, no pool, or never finished: the library takes only the last without force. */
		if (rc != -EUCLEAN && rc != -ENOENT)
			return complain("%s", error.text);
	}
	if (size_check(r) || (!r->plain && own_tmpfs(r)))
		return 1;
	if (r->found)
		return 0;
	if (r->plain && r->made_dir &&
	    (chown(r->path, r->make.uid, r->make.gid) != 0 || chmod(r->path, directory_mode(r)) != 0))
		return complain("%s: cannot set owner, group or mode: %s", r->path, strerror(errno));
	if (create(r))
		return 1;
	if (!r->found)
		tell(r);
	return 0;
}

int main(int argc, char **argv)
{
	struct request r = { .pool = NULL };
	int rc = parse(argc, argv, &r);
	struct stat st;

	if (rc)
		return rc < 0 ? 0 : rc;
	if (!r.remove) {
		rc = make_directory(r.pool, &r.made_dir);
		if (rc)
			return complain("%s: cannot make the directory: %s", r.pool, strerror(-rc));
	}
	r.path = realpath(r.pool, NULL);
	if (!r.path || stat(r.path, &st) != 0)
		rc = complain("%s: %s", r.pool, strerror(errno));
	else if (!S_ISDIR(st.st_mode))
		rc = complain("%s: not a directory", r.pool);
	else if (r.if_missing && has(r.path, "heap") && look(&r, NULL) == 0)
		rc = 0;	/* the usual case, which waits for nobody */
	else if (!r.plain && (!r.remove || tmpfs_at(r.path) == TMPFS_OWN) && lock_place(r.path))
		rc = 1;
	else
		rc = r.remove ? remove_pool(&r) : make_pool(&r);
	if (rc && r.mounted)
		umount2(r.path, UMOUNT_NOFOLLOW);
	if (rc && r.made_dir && r.path)
		rmdir(r.path);
	free(r.path);
	return rc;
}
