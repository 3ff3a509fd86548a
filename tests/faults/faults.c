/* SPDX-License-Identifier: MIT */
/*
 * What goes wrong around a pool: full file systems, full tables, no descriptors, no address space, a heap cut short, a
 * read-only one, signals in every system call, clocks that jump.
 *
 *   faults [CASE]
 *
 * Each case runs in a process group of its own, which is killed when it has not ended in time; prints `ok CASE` or what was
 * wrong.  Those that mount need root and are skipped without.  Status: 0, 1 a case failed, 77 all that were asked for were
 * skipped.  Signals and clocks are in faults_time.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "faults.h"

#define WATCHDOG_S 60

/* Fill what is left of a file system. */
static void fill(const char *folder)
{
	static char bytes[4096];
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/filler", folder);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	MUST(fd < 0);
	while (write(fd, bytes, sizeof(bytes)) > 0)
		;
	close(fd);
}

static void empty(const char *folder)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/filler", folder);
	MUST(unlink(path));
}

/* ---- every call that needs room, in a tmpfs that has none ---- */

struct world {
	struct cxlshm_pool *pool;
	struct cxlshm_client *c;
	cxlshm_ref holder, queue, file, dir;
};

#define ALLOCATING 16

/* One call that may need memory; a second one undoes it.  0 or what it answered. */
static int allocating(struct world *w, int which, int turn)
{
	cxlshm_ref ref = 0;
	char name[32];
	int rc;

	snprintf(name, sizeof(name), "n%d-%d", which, turn);
	switch (which) {
	case 0: rc = cxlshm_alloc(w->c, 100, &ref); break;
	case 1: rc = cxlshm_alloc(w->c, 5000, &ref); break;
	case 2: rc = cxlshm_alloc(w->c, 100000, &ref); break;
	case 3: rc = cxlshm_alloc(w->c, 3 * MIB, &ref); break;
	case 4: rc = cxlshm_alloc_with(w->c, 50000, 0, CXLSHM_EXTENT, &ref); break;
	case 5: rc = cxlshm_alloc_with(w->c, 8192, 0, CXLSHM_PAGE_ALIGNED, &ref); break;
	case 6: rc = cxlshm_queue_create(w->c, 1000, 0, &ref); break;
	case 7: return cxlshm_create(w->c, 0, name, 50000, 0600, NULL);
	case 8: return cxlshm_mkdir(w->c, 0, name, 0700, NULL);
	case 9: return cxlshm_symlink(w->c, "somewhere", 0, name, NULL);
	case 10: return cxlshm_mknod(w->c, 0, name, S_IFIFO | 0600, NULL);
	case 11: return cxlshm_link(w->c, w->holder, 0, name, 0600);
	case 12: return cxlshm_setxattr(w->c, w->file, name, "0123456789abcdef", 16, 0);
	case 13: return cxlshm_resize(w->c, w->file, (uint64_t)(turn + 1) * 65536);
	case 14: return cxlshm_reserve(w->c, w->file, 0, (uint64_t)turn * 65536, 65536);
	default: rc = cxlshm_attach(w->c, w->holder, &ref); break;
	}
	return rc;	/* kept until the client leaves */
}

static void full(const char *path, const char *folder)
{
	struct world w;
	int refused = 0;

	MUST(cxlshm_pool_open(path, 0, &w.pool, NULL));
	MUST(cxlshm_join(w.pool, "full", 0, &w.c));
	MUST(cxlshm_alloc(w.c, 100, &w.holder));
	MUST(cxlshm_create(w.c, 0, "file", 10000, 0600, &w.file));
	fill(folder);
	for (int which = 0; which < ALLOCATING; which++) {
		int rc = 0, turn = 0;

		while (!rc && turn < 400000)
			rc = allocating(&w, which, turn++);
		if (rc != -ENOSPC) {
			printf("FAIL call %d answers %d after %d times\n", which, rc, turn);
			exit(1);
		}
		refused++;
		/* It said no and did nothing: what is there is still there. */
		REQUIRE(cxlshm_size(w.c, w.holder) == 100 && cxlshm_size(w.c, w.file) >= 10000);
	}
	cxlshm_pool_close(w.pool);
	faults_in_order(path);
	empty(folder);
	/* With room again, all goes on. */
	MUST(cxlshm_pool_open(path, 0, &w.pool, NULL));
	MUST(cxlshm_join(w.pool, "again", 0, &w.c));
	MUST(cxlshm_alloc(w.c, 100000, &w.holder));
	MUST(cxlshm_unlink(w.c, 0, "file"));
	cxlshm_pool_close(w.pool);
	faults_in_order(path);
	printf("     %d kinds of calls were refused with ENOSPC\n", refused);
}

#define POOL_PATH 80

/* A tmpfs of 12 MiB at dir that a plain pool of 8 MiB shares with others, in a mount namespace of its own. */
static void small_tmpfs(const char *dir, unsigned slots, char pool[POOL_PATH])
{
	if (geteuid() || unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		exit(SKIPPED);
	MUST(mount("faults", dir, "tmpfs", 0, "size=12m") ? errno : 0);
	snprintf(pool, POOL_PATH, "%s/pool", dir);
	faults_make(pool, 8 * MIB, slots);
}

/* What fill() has filled dir with, less so many bytes. */
static void make_room(const char *dir, uint64_t bytes)
{
	char filler[POOL_PATH];
	struct stat st;

	snprintf(filler, sizeof(filler), "%s/filler", dir);
	MUST(stat(filler, &st) ? errno : 0);
	MUST(truncate(filler, st.st_size - (off_t)bytes) ? errno : 0);
}

static void full_tmpfs(const char *dir)
{
	char pool[POOL_PATH];

	small_tmpfs(dir, 4, pool);
	full(pool, dir);
	MUST(umount2(dir, MNT_DETACH));
}

/* One object of several segments, and room for more and more of them: it is refused, or all of it is there. */
static void full_tmpfs_span(const char *dir)
{
	struct cxlshm_pool_info info;
	struct cxlshm_client *c;
	struct cxlshm_pool *p;
	char pool[POOL_PATH];
	cxlshm_ref ref;
	int rc = -ENOSPC, refused = 0;

	small_tmpfs(dir, 4, pool);
	MUST(cxlshm_pool_open(pool, 0, &p, NULL));
	MUST(cxlshm_pool_info(p, &info));
	MUST(cxlshm_join(p, NULL, 0, &c));
	fill(dir);
	for (int turn = 0; rc && turn < 20; turn++) {
		rc = cxlshm_alloc(c, 5 * info.segment_bytes / 2, &ref);
		REQUIRE(!rc || rc == -ENOSPC);
		refused += rc != 0;
		if (rc)	/* in halves, so that the first has room and the others have not */
			make_room(dir, info.segment_bytes / 2);
	}
	REQUIRE(!rc && refused >= 4);
	memset(cxlshm_ptr(c, ref), 1, 5 * info.segment_bytes / 2);	/* no SIGBUS */
	MUST(cxlshm_release(c, ref));
	cxlshm_pool_close(p);
	faults_in_order(pool);
	MUST(umount2(dir, MNT_DETACH));
}

/* A file made longer, whose last page was cut out of it: that page is wanted, too. */
static void full_tmpfs_tail(const char *dir)
{
	struct cxlshm_client *c;
	struct cxlshm_pool *p;
	char pool[POOL_PATH];
	cxlshm_ref ref;
	void *map;

	small_tmpfs(dir, 4, pool);
	MUST(cxlshm_pool_open(pool, 0, &p, NULL));
	MUST(cxlshm_join(p, NULL, 0, &c));
	MUST(cxlshm_alloc_with(c, 100, 0, CXLSHM_EXTENT, &ref));
	MUST(cxlshm_reserve(c, ref, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
	fill(dir);
	for (int room = 0; room < 2; room++) {
		REQUIRE(cxlshm_resize(c, ref, 8192) == -ENOSPC);
		REQUIRE(cxlshm_size(c, ref) == 100);
		make_room(dir, 4096);
	}
	MUST(cxlshm_resize(c, ref, 8192));
	MUST(cxlshm_map(c, ref, 0, 8192, PROT_READ | PROT_WRITE, &map));
	memset(map, 1, 8192);
	MUST(cxlshm_unmap(c, map));
	MUST(cxlshm_release(c, ref));
	cxlshm_pool_close(p);
	faults_in_order(pool);
	MUST(umount2(dir, MNT_DETACH));
}

/* A slot whose pages cannot be had: a join is refused, and later works. */
static void full_tmpfs_join(const char *dir)
{
	struct cxlshm_client *c[16];
	struct cxlshm_pool *p;
	char pool[POOL_PATH];
	int joined = 0, rc = 0;

	small_tmpfs(dir, 16, pool);
	MUST(cxlshm_pool_open(pool, 0, &p, NULL));
	fill(dir);
	while (joined < 16 && !(rc = cxlshm_join(p, NULL, 0, &c[joined])))
		joined++;
	REQUIRE(rc == -ENOSPC);
	empty(dir);
	while (joined < 16)
		MUST(cxlshm_join(p, NULL, 0, &c[joined++]));
	cxlshm_pool_close(p);
	faults_in_order(pool);
	MUST(umount2(dir, MNT_DETACH));
}

/* ---- a full table of slots ---- */

static void full_slots(const char *dir)
{
	struct cxlshm_client *c[3], *more;
	struct cxlshm_pool *p, *q;
	int status;
	pid_t pid;

	faults_make(dir, 4 * MIB, 3);
	MUST(cxlshm_pool_open(dir, 0, &p, NULL));
	MUST(cxlshm_pool_open(dir, 0, &q, NULL));
	for (int i = 0; i < 2; i++)
		MUST(cxlshm_join(p, NULL, 0, &c[i]));
	pid = fork();
	if (!pid) {
		struct cxlshm_pool *mine;

		MUST(cxlshm_pool_open(dir, 0, &mine, NULL));
		MUST(cxlshm_join(mine, "dying", 0, &more));
		REQUIRE(cxlshm_join(mine, NULL, 0, &more) == -EUSERS);
		kill(getpid(), SIGKILL);
	}
	MUST(waitpid(pid, &status, 0) != pid);
	REQUIRE(WIFSIGNALED(status));
	/* The dead one's slot is free for whoever wants it. */
	MUST(cxlshm_join(q, NULL, 0, &c[2]));
	REQUIRE(cxlshm_join(q, NULL, 0, &more) == -EUSERS);
	MUST(cxlshm_leave(c[1]));
	MUST(cxlshm_join(q, NULL, 0, &more));
	cxlshm_pool_close(p);
	cxlshm_pool_close(q);
	faults_in_order(dir);
}

/* ---- no descriptors ---- */

static void no_descriptors(const char *dir)
{
	struct rlimit limit;
	struct cxlshm_client *c;
	struct cxlshm_pool *p, *other;
	cxlshm_ref ref, file;
	void *map;
	int took[1024], n = 0, rc;

	faults_make(dir, 4 * MIB, 3);
	MUST(cxlshm_pool_open(dir, 0, &p, NULL));
	MUST(cxlshm_join(p, NULL, 0, &c));
	MUST(cxlshm_create(c, 0, "file", 10000, 0600, &file));
	MUST(getrlimit(RLIMIT_NOFILE, &limit));
	limit.rlim_cur = 64;
	MUST(setrlimit(RLIMIT_NOFILE, &limit));
	while ((took[n] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
		n++;
	REQUIRE(errno == EMFILE);
	/* With 0, 1, 2 and so on left: each is refused with -EMFILE and undone, or works. */
	for (int left = 0; left < 6; left++) {
		rc = cxlshm_pool_open(dir, 0, &other, NULL);
		REQUIRE(!rc || rc == -EMFILE);
		if (!rc)
			cxlshm_pool_close(other);
		rc = cxlshm_create(c, 0, "new", 10000, 0600, NULL);
		REQUIRE(!rc || rc == -EMFILE);
		if (!rc)
			MUST(cxlshm_unlink(c, 0, "new"));
		rc = cxlshm_resize(c, file, 20000 + (uint64_t)left);
		REQUIRE(!rc || rc == -EMFILE);
		rc = cxlshm_map(c, file, 0, 4096, PROT_READ, &map);
		REQUIRE(!rc || rc == -EMFILE);
		if (!rc)
			MUST(cxlshm_unmap(c, map));
		rc = cxlshm_extent_open(c, file, O_RDONLY);
		REQUIRE(rc >= 0 || rc == -EMFILE);
		if (rc >= 0)
			close(rc);
		rc = cxlshm_recover(p, NULL);
		REQUIRE(!rc);
		/* What needs no descriptor works. */
		MUST(cxlshm_alloc(c, 1000, &ref));
		MUST(cxlshm_release(c, ref));
		if (!left) {
			MUST(cxlshm_link(c, file, 0, "second", 0));
			MUST(cxlshm_unlink(c, 0, "second"));
		}
		close(took[--n]);
	}
	while (n)
		close(took[--n]);
	cxlshm_pool_close(p);
	faults_in_order(dir);
}

/* ---- no address space ---- */

static void no_address_space(const char *dir)
{
	struct cxlshm_check_result result;
	struct cxlshm_error error = {""};
	struct cxlshm_client *c;
	struct cxlshm_pool *p, *other;
	struct rlimit limit;
	cxlshm_ref file;
	void *map;
	int rc;

	faults_make(dir, 64 * MIB, 4);
	MUST(cxlshm_pool_open(dir, 0, &p, NULL));
	MUST(cxlshm_join(p, NULL, 0, &c));
	MUST(cxlshm_create(c, 0, "file", 40 * MIB, 0600, &file));
	MUST(getrlimit(RLIMIT_AS, &limit));
	limit.rlim_cur = 64 * MIB + 30 * MIB;	/* the heap is mapped already */
	MUST(setrlimit(RLIMIT_AS, &limit));
	rc = cxlshm_pool_open(dir, 0, &other, &error);
	REQUIRE(rc == -ENOMEM && strstr(error.text, dir));
	REQUIRE(cxlshm_map(c, file, 0, 40 * MIB, PROT_READ, &map) == -ENOMEM);
	MUST(cxlshm_map(c, file, 0, 4096, PROT_READ, &map));
	MUST(cxlshm_unmap(c, map));
	MUST(cxlshm_unlink(c, 0, "file"));
	MUST(cxlshm_release(c, file));
	limit.rlim_cur = limit.rlim_max;
	cxlshm_pool_close(p);
	rc = cxlshm_check(dir, 0, NULL, NULL, &result, NULL);
	REQUIRE(!rc || rc == -ENOMEM);
	MUST(setrlimit(RLIMIT_AS, &limit));
	faults_in_order(dir);
}

/* ---- a heap cut short ---- */

/* The kernel's answer to touching what a truncated file no longer has is SIGBUS, for those that had it mapped; nobody
 * can mend that for them.  Whoever opens it afterwards is told, and other pools do not mind. */
static void truncated_heap(const char *dir)
{
	char path[80], other[80];
	struct cxlshm_check_result result;
	struct cxlshm_error error = {""};
	struct cxlshm_client *c, *d;
	struct cxlshm_pool *p, *q, *r;
	cxlshm_ref ref;
	int status;
	pid_t pid;

	snprintf(other, sizeof(other), "%s/other", dir);
	snprintf(path, sizeof(path), "%s/pool", dir);
	faults_make(path, 4 * MIB, 3);
	faults_make(other, 4 * MIB, 3);
	MUST(cxlshm_pool_open(path, 0, &p, NULL));
	MUST(cxlshm_join(p, NULL, 0, &c));
	MUST(cxlshm_pool_open(other, 0, &q, NULL));
	MUST(cxlshm_join(q, NULL, 0, &d));
	pid = fork();
	if (!pid) {
		char heap[100];

		snprintf(heap, sizeof(heap), "%s/heap", path);
		MUST(cxlshm_pool_open(path, 0, &r, NULL));
		MUST(cxlshm_join(r, NULL, 0, &d));
		MUST(truncate(heap, 8192));
		for (;;)
			cxlshm_alloc(d, 1000, &ref);
	}
	MUST(waitpid(pid, &status, 0) != pid);
	REQUIRE(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
	REQUIRE(cxlshm_pool_open(path, 0, &r, &error) == -EUCLEAN && strstr(error.text, path));
	REQUIRE(cxlshm_check(path, CXLSHM_CHECK_REPAIR, NULL, NULL, &result, NULL));
	MUST(cxlshm_alloc(d, 1000, &ref));
	MUST(cxlshm_create(d, 0, "file", 5000, 0600, NULL));
	cxlshm_pool_close(q);
	faults_in_order(other);
	_exit(0);	/* closing p would touch what is gone */
}

/* ---- a pool that may only be read ---- */

static int one_more(void *arg, const struct cxlshm_object_info *info)
{
	(void)info;
	++*(int *)arg;
	return 0;
}

static void read_only(const char *dir)
{
	struct cxlshm_check_result result;
	struct cxlshm_client *c;
	struct cxlshm_pool *p;
	char command[400];
	int objects = 0, rc;

	faults_make(dir, 4 * MIB, 3);
	MUST(cxlshm_pool_open(dir, 0, &p, NULL));
	MUST(cxlshm_join(p, NULL, 0, &c));
	MUST(cxlshm_create(c, 0, "file", 5000, 0600, NULL));
	cxlshm_pool_close(p);
	MUST(cxlshm_pool_open(dir, CXLSHM_READONLY, &p, NULL));
	REQUIRE(cxlshm_join(p, NULL, 0, &c) == -EROFS);
	REQUIRE(cxlshm_recover(p, NULL) == -EROFS);
	MUST(cxlshm_each_object(p, one_more, &objects));
	REQUIRE(objects >= 2);
	cxlshm_pool_close(p);
	/* Files that may not be written: for those that privilege does not carry over that. */
	snprintf(command, sizeof(command), "chmod -R a-w '%s'; chmod a+rx '%s' '%s/x'; chmod a+r '%s/heap'", dir, dir, dir, dir);
	MUST(system(command));
	if (!geteuid())
		MUST(setresuid(65534, 65534, 65534));
	rc = cxlshm_pool_open(dir, 0, &p, NULL);
	REQUIRE(rc == -EACCES || rc == -EROFS);
	MUST(cxlshm_pool_open(dir, CXLSHM_READONLY, &p, NULL));
	REQUIRE(cxlshm_join(p, NULL, 0, &c) == -EROFS);
	cxlshm_pool_close(p);
	rc = cxlshm_check(dir, CXLSHM_CHECK_REPAIR, NULL, NULL, &result, NULL);
	REQUIRE(rc == -EACCES || rc == -EROFS);
}

/* ---- all of them ---- */

static const struct test {
	const char *name;
	void (*run)(const char *dir);	/* an empty folder of its own */
} tests[] = {
	{"full_tmpfs", full_tmpfs},
	{"full_tmpfs_span", full_tmpfs_span},
	{"full_tmpfs_tail", full_tmpfs_tail},
	{"full_tmpfs_join", full_tmpfs_join},
	{"full_slots", full_slots},
	{"no_descriptors", no_descriptors},
	{"no_address_space", no_address_space},
	{"truncated_heap", truncated_heap},
	{"read_only", read_only},
	{"signals", faults_signals},
	{"signal_in_each_call", faults_signal_in_each_call},
	{"clock_jumps", faults_clock_jumps},
};

/* What a case does with signals and children is its own: the clock is kept outside of it. */
static int ended(pid_t pid)
{
	const struct timespec nap = {0, 5000000};
	double end = faults_now() + WATCHDOG_S;
	int status = -1, killed = 0;

	while (!waitpid(pid, &status, WNOHANG)) {
		if (!killed && faults_now() > end) {
			printf("FAIL not done after %d s: killed\n", WATCHDOG_S);
			killed = 1;
			kill(-pid, SIGKILL);
		}
		nanosleep(&nap, NULL);
	}
	kill(-pid, SIGKILL);	/* children that it left */
	return status;
}

int main(int argc, char **argv)
{
	int passed = 0, failed = 0, skipped = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		char dir[64], command[200];
		int status;
		pid_t pid;

		if (argc > 1 && strcmp(argv[1], tests[i].name))
			continue;
		snprintf(dir, sizeof(dir), "%s/cxlshm-faults-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
		MUST(!mkdtemp(dir));
		fflush(NULL);
		pid = fork();
		MUST(pid < 0);
		if (!pid) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			setpgid(0, 0);
			tests[i].run(dir);
			exit(0);
		}
		setpgid(pid, pid);
		status = ended(pid);
		snprintf(command, sizeof(command), "chmod -R u+rwX '%s' && rm -rf '%s'", dir, dir);
		if (system(command)) {
			printf("FAIL %s is left\n", dir);
			failed++;
		}
		if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED) {
			printf("skip %s: needs root\n", tests[i].name);
			skipped++;
		} else if (status) {
			printf("FAIL %s (status 0x%x)\n     replay: faults %s\n", tests[i].name, (unsigned)status, tests[i].name);
			failed++;
		} else {
			printf("ok   %s\n", tests[i].name);
			passed++;
		}
	}
	printf("faults: %d passed, %d failed, %d skipped\n", passed, failed, skipped);
	if (skipped && getenv("CXLSHM_REQUIRE_FUSE") && !strcmp(getenv("CXLSHM_REQUIRE_FUSE"), "1")) {
		printf("FAIL CXLSHM_REQUIRE_FUSE=1 does not let cases be skipped\n");
		failed++;
	}
	return failed || !(passed + skipped) ? 1 : passed ? 0 : SKIPPED;
}
