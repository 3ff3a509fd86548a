/* SPDX-License-Identifier: MIT */
/*
 * churn: random native operations until killed, for soak.py.
 *
 *   churn POOL SEED [COUNTS NUMBER]
 *   churn --kinds	a line for each kind of operation: its name, and the errors that it may be told
 *   churn --table	TABLE_BYTES bytes that what is in files is taken from
 *
 * COUNTS is a file of 64-bit counters, COLUMNS for each of KINDS_MAX kinds for each of its users; churn is the NUMBERth.
 * The first column counts what was done, each other one a refusal with that error.  What is not done is not counted.
 *
 * All churns of a pool fight over the same names: /cells (an object with 64 cells), /queue, and the files
 * and folders under /native.  Each object carries its own id and a sum of it, written before the reference leaves
 * this client, so that whoever gets the object from a cell, a queue or a name sees if it is not what it
 * was.  A file says in every byte which one it is (struct stamp), those that soak.py writes through the mount as well; its
 * permission bits say what may be expected of it (MODE_*).  A wrong object, a wrong byte or an error that is not listed
 * for the call ends it with status 1.
 */
#include <cxlshm.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define CELLS 64
#define HELD 48
#define FIELDS 4
#define MARK 0x9e3779b97f4a7c15ull
#define KINDS_MAX 32
#define COLUMNS 4
#define TABLE_BYTES 1048573	/* a prime, so that no two pages of a file are alike */
#define FILE_MOST 100000

/* Files by their permission bits: written before they had a name, and never again; written under their name, and
 * resized by anybody; a heap object's. */
#define MODE_WHOLE 0600
#define MODE_OPEN 0666
#define MODE_HEAP 0640

struct mark {
	uint64_t id, sum;
};

/*
 * How a file begins.  Behind it the byte at offset o is byte (stamp_start() + o) % TABLE_BYTES of the table: it depends on
 * which object it is, who wrote it, the how-manieth of his it was, and where it is.
 */
struct stamp {
	uint64_t id, writer, sequence, bytes;
	uint64_t written;	/* 1: all of it.  Its byte is the last one that is written */
};

enum kind {
	JOIN, LEAVE, ALLOC, RELEASE, CELLS_CREATE, CELL_LOAD, CELL_STORE, CELL_SWAP, CELL_CAS, QUEUE_CREATE, QUEUE_SEND,
	QUEUE_RECEIVE, FIELD_STORE, MKDIR, RMDIR, LINK, LOOKUP, RENAME, EXCHANGE, UNLINK, CREATE, EXTENT, RESIZE, MAP, UNMAP,
	FILE_WRITE, FILE_STORE, FILE_READ, FILE_LOAD, KINDS
};

/*
 * What each may be told.  The others take names away (ENOENT) and give them (EEXIST), and fill folders (ENOTEMPTY); a queue is
 * full or empty, a cell has changed since it was loaded (EAGAIN).  Folders are made by mkdir only and files below them only,
 * so that nothing here is a file where a folder is wanted; nobody has copies of a reference that he gives away; there are
 * more slots than processes; and what all of them hold is a small part of the pool, so that nothing is full.
 */
static const struct {
	const char *name;
	int refused[COLUMNS - 1];
} kinds[] = {
	[JOIN] = {"join", {0}},
	[LEAVE] = {"leave", {0}},
	[ALLOC] = {"alloc", {0}},
	[RELEASE] = {"release", {0}},
	[CELLS_CREATE] = {"cells create", {0}},
	[CELL_LOAD] = {"cell load", {0}},
	[CELL_STORE] = {"cell store", {0}},
	[CELL_SWAP] = {"cell swap", {0}},
	[CELL_CAS] = {"cell cas", {EAGAIN}},
	[QUEUE_CREATE] = {"queue create", {0}},
	[QUEUE_SEND] = {"queue send", {EAGAIN}},
	[QUEUE_RECEIVE] = {"queue receive", {EAGAIN}},
	[FIELD_STORE] = {"field store", {0}},
	[MKDIR] = {"mkdir", {EEXIST}},
	[RMDIR] = {"rmdir", {ENOENT, ENOTEMPTY}},
	[LINK] = {"link", {ENOENT, EEXIST}},
	[LOOKUP] = {"lookup", {ENOENT}},
	[RENAME] = {"rename", {ENOENT}},
	[EXCHANGE] = {"exchange", {ENOENT}},
	[UNLINK] = {"unlink", {ENOENT}},
	[CREATE] = {"create", {ENOENT, EEXIST}},
	[EXTENT] = {"extent", {0}},
	[RESIZE] = {"resize", {0}},
	[MAP] = {"map", {0}},
	[UNMAP] = {"unmap", {0}},
	[FILE_WRITE] = {"file write", {0}},
	[FILE_STORE] = {"file store", {0}},
	[FILE_READ] = {"file read", {0}},
	[FILE_LOAD] = {"file load", {0}},
};

struct churn {
	struct cxlshm_pool *pool;
	struct cxlshm_client *client;
	cxlshm_ref cells, queue;
	cxlshm_ref held[HELD];
	uint64_t random;
	uint64_t writer, sequence;
	volatile uint64_t *counts;
};

static unsigned char table[2 * TABLE_BYTES];	/* twice, so that what is longer than its rest need not be put together */

static void fill_table(void)
{
	uint64_t word = MARK;

	for (size_t i = 0; i < TABLE_BYTES; i++) {
		if (!(i & 7)) {
			word ^= word << 13;
			word ^= word >> 7;
			word ^= word << 17;
		}
		table[i] = table[i + TABLE_BYTES] = (unsigned char)(word >> 8 * (i & 7));
	}
}

static uint64_t draw(struct churn *c, uint64_t below)
{
	c->random ^= c->random >> 12;
	c->random ^= c->random << 25;
	c->random ^= c->random >> 27;
	return (c->random * 0x2545f4914f6cdd1dull >> 11) % below;
}

static void wrong(enum kind kind, const char *what)
{
	printf("churn: %s: %s\n", kinds[kind].name, what);
	fflush(stdout);
	exit(1);
}

/* Count what the call came to.  Returns rc, if it is 0 or one of those listed. */
static int counted(struct churn *c, enum kind kind, int rc)
{
	int column = 0;

	if (rc) {
		while (column < COLUMNS - 1 && kinds[kind].refused[column] != -rc)
			column++;
		if (column++ == COLUMNS - 1)
			wrong(kind, strerrorname_np(-rc));
	}
	c->counts[kind * COLUMNS + (unsigned)column]++;
	return rc;
}

/* ---- bytes ---- */

static struct mark *mark_of(struct churn *c, cxlshm_ref ref)
{
	char *bytes = cxlshm_ptr(c->client, ref);
	if (!bytes)
		wrong(ALLOC, "an object without bytes");
	return (struct mark *)(void *)(bytes + FIELDS * 8);
}

static struct stamp stamp_new(struct churn *c, cxlshm_ref ref, uint64_t bytes)
{
	return (struct stamp){cxlshm_id(c->client, ref), c->writer, ++c->sequence, bytes, 1};
}

static uint64_t stamp_start(const struct stamp *s)
{
	return ((s->id * MARK ^ s->writer) * MARK ^ s->sequence) * MARK % TABLE_BYTES;
}

/* What has to be in the file at that offset, as far as the file can go. */
static const unsigned char *stamp_bytes(const struct stamp *s, uint64_t offset)
{
	return table + (stamp_start(s) + offset) % TABLE_BYTES;
}

static void wrong_byte(enum kind kind, const struct stamp *s, uint64_t id, uint64_t size, uint64_t offset, unsigned byte)
{
	char text[300];

	snprintf(text, sizeof(text), "file %#" PRIx64 " of %" PRIu64 " bytes says %#" PRIx64 ", number %" PRIu64 " of writer %" PRIu64
		 ", %" PRIu64 " bytes, written %" PRIu64 "; at offset %" PRIu64 " it has %u",
		 id, size, s->id, s->sequence, s->writer, s->bytes, s->written, offset, byte);
	wrong(kind, text);
}

/* A file that nobody changes any more: each byte of it. */
static void check_whole(struct churn *c, cxlshm_ref ref)
{
	int64_t size = cxlshm_size(c->client, ref);
	uint64_t id = cxlshm_id(c->client, ref);
	const unsigned char *bytes, *want;
	struct stamp s = {0};
	void *map;

	if (size < (int64_t)sizeof(s))
		wrong_byte(FILE_LOAD, &s, id, (uint64_t)size, 0, 0);
	if (counted(c, MAP, cxlshm_map(c->client, ref, 0, (size_t)size, PROT_READ, &map)))
		return;
	bytes = map;
	memcpy(&s, bytes, sizeof(s));
	want = stamp_bytes(&s, 0);
	if (s.id != id || s.bytes != (uint64_t)size || s.written != 1)
		wrong_byte(FILE_LOAD, &s, id, (uint64_t)size, 0, bytes[0]);
	if (memcmp(bytes + sizeof(s), want + sizeof(s), (size_t)size - sizeof(s))) {
		size_t o = sizeof(s);

		while (bytes[o] == want[o])
			o++;
		wrong_byte(FILE_LOAD, &s, id, (uint64_t)size, o, bytes[o]);
	}
	counted(c, FILE_LOAD, 0);
	counted(c, UNMAP, cxlshm_unmap(c->client, map));
}

/* All that the file has from offset on, at most length.  Not by a mapping: what is cut off is SIGBUS there. */
static size_t read_all(int fd, unsigned char *bytes, size_t length, size_t offset)
{
	size_t had = 0;
	ssize_t n;

	while (had < length && (n = pread(fd, bytes + had, length - had, (off_t)(offset + had)))) {
		if (n < 0)
			wrong(FILE_READ, strerrorname_np(errno));
		had += (size_t)n;
	}
	return had;
}

/* A file that others may just cut off or make longer: each byte is the one it had, or 0. */
static void check_open(struct churn *c, cxlshm_ref ref)
{
	static unsigned char bytes[2 * FILE_MOST];
	uint64_t id = cxlshm_id(c->client, ref);
	const unsigned char *want;
	unsigned char written = 0;
	struct stamp s = {0};
	size_t size;
	int fd = cxlshm_extent_open(c->client, ref, O_RDONLY);

	if (fd < 0)
		wrong(FILE_READ, strerrorname_np(-fd));
	/* First, for before it is there anything may be missing.  A writer who was killed has left it so. */
	if (!read_all(fd, &written, 1, offsetof(struct stamp, written)) || !written) {
		close(fd);
		return;
	}
	size = read_all(fd, bytes, sizeof(bytes), 0);
	close(fd);
	if (size >= sizeof(s))
		memcpy(&s, bytes, sizeof(s));
	if (s.id != id || s.written != 1)
		wrong_byte(FILE_READ, &s, id, size, 0, bytes[0]);
	want = stamp_bytes(&s, 0);
	for (size_t o = sizeof(s); o < size; o++)
		if (bytes[o] != want[o] && bytes[o])
			wrong_byte(FILE_READ, &s, id, size, o, bytes[o]);
	counted(c, FILE_READ, 0);
}

static void verify(struct churn *c, cxlshm_ref ref)
{
	struct cxlshm_stat st;
	struct mark *mark;
	int rc;

	if (!ref)
		return;
	switch (cxlshm_kind(c->client, ref)) {
	case CXLSHM_KIND_HEAP:
		mark = mark_of(c, ref);
		if (mark->id != cxlshm_id(c->client, ref) || mark->sum != mark->id * MARK)
			wrong(ALLOC, "an object is not what it was");
		break;
	case CXLSHM_KIND_FILE:
		rc = cxlshm_stat(c->client, ref, &st);
		if (rc)
			wrong(FILE_READ, strerrorname_np(-rc));
		if ((st.mode & 0777) == MODE_WHOLE)
			check_whole(c, ref);
		else
			check_open(c, ref);
		break;
	default:
		wrong(LOOKUP, "an object of a kind that nobody makes");
	}
}

/* Hold it for a while, and let go of one that was held: what nobody else has any more is still what it was. */
static void put_away(struct churn *c, cxlshm_ref ref)
{
	size_t i = draw(c, HELD);
	if (c->held[i]) {
		if (cxlshm_kind(c->client, c->held[i]) == CXLSHM_KIND_HEAP || !draw(c, 4))
			verify(c, c->held[i]);
		counted(c, RELEASE, cxlshm_release(c->client, c->held[i]));
	}
	c->held[i] = ref;
}

/* ---- steps ---- */

static cxlshm_ref make(struct churn *c)
{
	static const size_t most[] = {100, 100, 1000, 10000, 300000};
	size_t bytes = FIELDS * 8 + sizeof(struct mark) + draw(c, most[draw(c, 5)]);
	cxlshm_ref ref;
	if (counted(c, ALLOC, cxlshm_alloc_with(c->client, bytes, FIELDS, draw(c, 2) ? CXLSHM_ZERO : 0, &ref)))
		return 0;
	struct mark *mark = mark_of(c, ref);
	mark->id = cxlshm_id(c->client, ref);
	mark->sum = mark->id * MARK;
	return ref;
}

/* A file that has no name yet, with all its bytes. */
static cxlshm_ref make_whole(struct churn *c)
{
	size_t bytes = sizeof(struct stamp) + draw(c, FILE_MOST);
	cxlshm_ref ref;
	void *map;
	if (counted(c, EXTENT, cxlshm_alloc_with(c->client, bytes, 0, CXLSHM_EXTENT, &ref)))
		return 0;
	if (counted(c, MAP, cxlshm_map(c->client, ref, 0, bytes, PROT_READ | PROT_WRITE, &map))) {
		counted(c, RELEASE, cxlshm_release(c->client, ref));
		return 0;
	}
	struct stamp s = stamp_new(c, ref, bytes);
	memcpy(map, &s, sizeof(s));
	memcpy((char *)map + sizeof(s), stamp_bytes(&s, sizeof(s)), bytes - sizeof(s));
	counted(c, FILE_STORE, 0);
	counted(c, UNMAP, cxlshm_unmap(c->client, map));
	return ref;
}

static void write_all(int fd, const void *bytes, size_t length, size_t offset)
{
	while (length) {
		ssize_t n = pwrite(fd, bytes, length, (off_t)offset);
		if (n <= 0)
			wrong(FILE_WRITE, strerrorname_np(errno));
		bytes = (const char *)bytes + n;
		length -= (size_t)n;
		offset += (size_t)n;
	}
}

/* A file that has its name before its bytes. */
static void make_open(struct churn *c, const char *path)
{
	size_t bytes = sizeof(struct stamp) + draw(c, FILE_MOST);
	cxlshm_ref ref;
	if (counted(c, CREATE, cxlshm_create(c->client, 0, path, bytes, MODE_OPEN, &ref)))
		return;
	struct stamp s = stamp_new(c, ref, bytes);
	int fd = cxlshm_extent_open(c->client, ref, O_RDWR);
	if (fd < 0)
		wrong(FILE_WRITE, strerrorname_np(-fd));
	write_all(fd, &s, offsetof(struct stamp, written), 0);
	write_all(fd, stamp_bytes(&s, sizeof(s)), bytes - sizeof(s), sizeof(s));
	write_all(fd, &(char){1}, 1, offsetof(struct stamp, written));
	close(fd);
	counted(c, FILE_WRITE, 0);
	put_away(c, ref);
}

static void cell_step(struct churn *c)
{
	uint32_t index = (uint32_t)draw(c, CELLS);
	cxlshm_ref ref = 0, mine;
	switch (draw(c, 5)) {
	case 0: case 1:
		if (!counted(c, CELL_LOAD, cxlshm_cell_load(c->client, c->cells, index, &ref))) {
			verify(c, ref);
			put_away(c, ref);
		}
		break;
	case 2:
		counted(c, CELL_STORE, cxlshm_cell_store(c->client, c->cells, index, c->held[draw(c, HELD)]));
		break;
	case 3:
		mine = make(c);
		counted(c, CELL_SWAP, cxlshm_cell_swap(c->client, c->cells, index, &mine));
		verify(c, mine);
		put_away(c, mine);
		break;
	default:
		if (counted(c, CELL_LOAD, cxlshm_cell_load(c->client, c->cells, index, &ref)))
			return;
		mine = make(c);
		counted(c, CELL_CAS, cxlshm_cell_cas(c->client, c->cells, index, ref, &mine));
		verify(c, mine);
		put_away(c, mine);
		put_away(c, ref);
	}
}

static void queue_step(struct churn *c)
{
	cxlshm_ref ref;
	if (draw(c, 2)) {
		ref = make(c);
		if (ref && counted(c, QUEUE_SEND, cxlshm_queue_send(c->client, c->queue, ref)))
			put_away(c, ref);
	} else if (!counted(c, QUEUE_RECEIVE, cxlshm_queue_receive(c->client, c->queue, &ref))) {
		verify(c, ref);
		put_away(c, ref);
	}
}

static void field_step(struct churn *c)
{
	/* Only into an object that nobody else has seen: fields have no lock of their own. */
	cxlshm_ref ref = make(c);
	if (!ref)
		return;
	for (uint32_t i = 0; i < FIELDS; i++) {
		cxlshm_ref child = c->held[draw(c, HELD)];
		if (child && cxlshm_kind(c->client, child) == CXLSHM_KIND_HEAP)
			counted(c, FIELD_STORE, cxlshm_field_store(c->client, ref, i, draw(c, 8) ? 0 : child));
	}
	put_away(c, ref);
}

/* Some object by its name, also one that was written through the mount: it is looked at, and stays as it is. */
static void look_step(struct churn *c, const char *path)
{
	cxlshm_ref ref;
	char file[64];
	snprintf(file, sizeof(file), "files/%d/%d", (int)draw(c, 4), (int)draw(c, 20));
	if (!counted(c, LOOKUP, cxlshm_lookup(c->client, 0, draw(c, 2) ? path : file, 0, &ref))) {
		verify(c, ref);
		put_away(c, ref);
	}
}

static void resize_step(struct churn *c, const char *path)
{
	struct cxlshm_stat st;
	cxlshm_ref ref;
	if (counted(c, LOOKUP, cxlshm_lookup(c->client, 0, path, 0, &ref)))
		return;
	if (!cxlshm_stat(c->client, ref, &st) && st.kind == CXLSHM_KIND_FILE && (st.mode & 0777) == MODE_OPEN)
		counted(c, RESIZE, cxlshm_resize(c->client, ref, sizeof(struct stamp) + draw(c, FILE_MOST)));
	put_away(c, ref);
}

/* A file's name: mostly in one of three folders that have many, else in one that has one or none, so that rmdir works. */
static void name(struct churn *c, char *path, size_t size)
{
	if (draw(c, 32))
		snprintf(path, size, "native/d%d/f%d", (int)draw(c, 3), (int)draw(c, 12));
	else
		snprintf(path, size, "native/d%d/f0", 3 + (int)draw(c, 3));
}

static void name_step(struct churn *c)
{
	char a[64], b[64], folder[64];
	cxlshm_ref ref;
	snprintf(folder, sizeof(folder), "native/d%d", (int)draw(c, 6));
	name(c, a, sizeof(a));
	name(c, b, sizeof(b));
	switch (draw(c, 11)) {
	case 0: make_open(c, a); break;
	case 1: counted(c, UNLINK, cxlshm_unlink(c->client, 0, a)); break;
	case 2: counted(c, RENAME, cxlshm_rename(c->client, 0, a, 0, b, 0)); break;
	case 3: counted(c, EXCHANGE, cxlshm_rename(c->client, 0, a, 0, b, CXLSHM_EXCHANGE)); break;
	case 4: counted(c, MKDIR, cxlshm_mkdir(c->client, 0, folder, 0777, NULL)); break;
	case 5: counted(c, RMDIR, cxlshm_rmdir(c->client, 0, folder)); break;
	case 6: case 7:
		ref = draw(c, 2) ? make(c) : make_whole(c);
		if (ref)
			counted(c, LINK, cxlshm_link(c->client, ref, 0, a, MODE_HEAP));
		put_away(c, ref);
		break;
	case 8: case 9: look_step(c, a); break;
	default: resize_step(c, a);
	}
}

/* ---- from the beginning ---- */

/* The shared objects: whoever is first makes them. */
static void meet(struct churn *c)
{
	cxlshm_ref ref;
	while (counted(c, LOOKUP, cxlshm_lookup(c->client, 0, "cells", 0, &c->cells))) {
		if (counted(c, CELLS_CREATE, cxlshm_alloc_with(c->client, CELLS * 16, CELLS, CXLSHM_ZERO | CXLSHM_CELLS, &ref)))
			continue;
		counted(c, LINK, cxlshm_link(c->client, ref, 0, "cells", 0600));
		counted(c, RELEASE, cxlshm_release(c->client, ref));
	}
	while (counted(c, LOOKUP, cxlshm_lookup(c->client, 0, "queue", 0, &c->queue))) {
		if (counted(c, QUEUE_CREATE, cxlshm_queue_create(c->client, 100, 0, &ref)))
			continue;
		counted(c, LINK, cxlshm_link(c->client, ref, 0, "queue", 0600));
		counted(c, RELEASE, cxlshm_release(c->client, ref));
	}
	counted(c, MKDIR, cxlshm_mkdir(c->client, 0, "native", 0777, NULL));
}

static void join(struct churn *c)
{
	counted(c, JOIN, cxlshm_join(c->pool, "churn", 0, &c->client));
	memset(c->held, 0, sizeof(c->held));
	meet(c);
}

/* The counters of this one; some that nobody looks at if there is no file. */
static uint64_t *counts_of(const char *path, const char *number)
{
	static uint64_t own[KINDS_MAX * COLUMNS];
	struct stat st;
	int fd;
	void *map;

	if (!path)
		return own;
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st)) {
		perror(path);
		exit(2);
	}
	map = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED) {
		perror(path);
		exit(2);
	}
	close(fd);
	return (uint64_t *)map + strtoul(number, NULL, 0) * KINDS_MAX * COLUMNS;
}

static int print_kinds(void)
{
	for (int kind = 0; kind < KINDS; kind++) {
		fputs(kinds[kind].name, stdout);
		for (int i = 0; i < COLUMNS - 1 && kinds[kind].refused[i]; i++)
			printf("\t%s", strerrorname_np(kinds[kind].refused[i]));
		putchar('\n');
	}
	return 0;
}

int main(int argc, char **argv)
{
	static struct churn c;
	struct cxlshm_error error;

	static_assert(KINDS <= KINDS_MAX, "they share the file with others");
	fill_table();
	if (argc == 2 && !strcmp(argv[1], "--kinds"))
		return print_kinds();
	if (argc == 2 && !strcmp(argv[1], "--table"))
		return fwrite(table, 1, TABLE_BYTES, stdout) != TABLE_BYTES;
	if (argc != 3 && argc != 5)
		return fprintf(stderr, "usage: churn POOL SEED [COUNTS NUMBER] | --kinds | --table\n"), 2;
	c.counts = counts_of(argc == 5 ? argv[3] : NULL, argc == 5 ? argv[4] : NULL);
	c.writer = strtoull(argv[2], NULL, 0);
	c.random = c.writer * MARK | 1;
	if (cxlshm_pool_open(argv[1], 0, &c.pool, &error))
		wrong(JOIN, error.text);
	join(&c);
	for (uint64_t step = 0;; step++) {
		uint64_t kind = draw(&c, 100);
		if (kind < 40)
			cell_step(&c);
		else if (kind < 60)
			queue_step(&c);
		else if (kind < 70)
			field_step(&c);
		else if (kind < 85)
			name_step(&c);
		else
			put_away(&c, kind < 95 ? make(&c) : 0);
		if (step % 2000 == 1999) {	/* leave and come back */
			counted(&c, LEAVE, cxlshm_leave(c.client));
			join(&c);
		}
	}
}
