/* SPDX-License-Identifier: MIT */
/*
 * Names, one client at a time: what each operation does and refuses.  Every test ends with a check of the pool.
 * Several clients at once, and dying ones, are in test_names_crowd.c.
 */
#include "names_pool.h"

#include <time.h>

#include "names_ops.h"

#define ok(call) assert_int_equal(call, 0)
#define fails(call, error) assert_int_equal(call, -(error))

static uint64_t id_of(struct names_pool *p, const char *path)
{
	cxlshm_ref ref;
	uint64_t id;
	int rc = cxlshm_lookup(p->c, 0, path, CXLSHM_INODE, &ref);

	if (rc)
		return 0;
	id = cxlshm_id(p->c, ref);
	ok(cxlshm_release(p->c, ref));
	return id;
}

static struct cxlshm_stat stat_of(struct names_pool *p, const char *path)
{
	struct cxlshm_stat st;
	cxlshm_ref ref;

	ok(cxlshm_lookup(p->c, 0, path, CXLSHM_INODE, &ref));
	ok(cxlshm_stat(p->c, ref, &st));
	ok(cxlshm_release(p->c, ref));
	return st;
}

static uint64_t objects(struct names_pool *p)
{
	struct cxlshm_check_result result;

	ok(check_pool((struct pool *)p->pool, 0, names_report, NULL, &result));
	return result.objects;
}

/* ---- adding ---- */

static void a_created_file_is_found_and_has_its_size(void **state)
{
	struct names_pool *p = *state;
	struct cxlshm_stat st;
	cxlshm_ref ref, again;

	ok(cxlshm_create(p->c, 0, "file", 12345, 0640, &ref));
	ok(cxlshm_lookup(p->c, 0, "/file", 0, &again));
	assert_int_equal(cxlshm_id(p->c, ref), cxlshm_id(p->c, again));
	ok(cxlshm_stat(p->c, again, &st));
	assert_int_equal(st.size_bytes, 12345);
	assert_int_equal(st.kind, CXLSHM_KIND_FILE);
	assert_int_equal(st.mode, S_IFREG | 0640);
	assert_int_equal(st.uid, geteuid());
	assert_int_equal(st.gid, getegid());
	assert_int_equal(st.links, 1);
	assert_int_equal(st.refs, 3);	/* two of ours, the entry's */
	assert_int_equal(st.id, cxlshm_id(p->c, ref));
	assert_true(st.used_bytes >= 12288);
	ok(cxlshm_release(p->c, ref));
	ok(cxlshm_release(p->c, again));
	fails(cxlshm_create(p->c, 0, "file", 0, 0600, NULL), EEXIST);
	fails(cxlshm_mkdir(p->c, 0, "file", 0700, NULL), EEXIST);
}

static void names_that_are_none_are_refused(void **state)
{
	struct names_pool *p = *state;
	char name[CXLSHM_NAME_MAX + 2];
	cxlshm_ref ref;

	memset(name, 'x', sizeof(name));
	name[CXLSHM_NAME_MAX + 1] = 0;
	fails(cxlshm_create(p->c, 0, name, 0, 0600, NULL), ENAMETOOLONG);
	fails(cxlshm_lookup(p->c, 0, name, 0, &ref), ENAMETOOLONG);
	name[CXLSHM_NAME_MAX] = 0;
	ok(cxlshm_create(p->c, 0, name, 0, 0600, NULL));
	assert_true(id_of(p, name) != 0);
	ok(cxlshm_unlink(p->c, 0, name));
	fails(cxlshm_create(p->c, 0, ".", 0, 0600, NULL), EINVAL);
	fails(cxlshm_mkdir(p->c, 0, "..", 0700, NULL), EINVAL);
	fails(cxlshm_lookup(p->c, 0, "../x", 0, &ref), EINVAL);
	ok(cxlshm_create(p->c, 0, "...", 0, 0600, NULL));
	ok(cxlshm_create(p->c, 0, ".x", 0, 0600, NULL));
	fails(cxlshm_mkdir(p->c, 0, "", 0700, NULL), EEXIST);
	fails(cxlshm_mkdir(p->c, 0, "/", 0700, NULL), EEXIST);
	fails(cxlshm_unlink(p->c, 0, "/"), EISDIR);
	fails(cxlshm_rmdir(p->c, 0, ""), EBUSY);
	fails(cxlshm_rename(p->c, 0, "", 0, "x", 0), EBUSY);
	fails(cxlshm_lookup(p->c, 0, "nothing", 0, &ref), ENOENT);
	fails(cxlshm_lookup(p->c, 0, "nothing/x", 0, &ref), ENOENT);
	fails(cxlshm_lookup(p->c, 0, ".x/y", 0, &ref), ENOTDIR);
	fails(cxlshm_lookup(p->c, 12345, "x", 0, &ref), EBADF);
}

static void paths_lead_through_directories(void **state)
{
	struct names_pool *p = *state;
	cxlshm_ref a, b, ref;

	ok(cxlshm_mkdir(p->c, 0, "a", 0755, &a));
	ok(cxlshm_mkdir(p->c, a, "b", 0755, &b));
	ok(cxlshm_create(p->c, 0, "a/b/c", 0, 0600, NULL));
	assert_true(id_of(p, "//a//b///c/") != 0);
	assert_int_equal(id_of(p, "a/b"), cxlshm_id(p->c, b));
	ok(cxlshm_lookup(p->c, a, "", 0, &ref));
	assert_int_equal(cxlshm_id(p->c, ref), cxlshm_id(p->c, a));
	ok(cxlshm_release(p->c, ref));
	ok(cxlshm_lookup(p->c, b, "c", 0, &ref));
	fails(cxlshm_create(p->c, ref, "x", 0, 0600, NULL), ENOTDIR);
	ok(cxlshm_release(p->c, ref));
	assert_int_equal(stat_of(p, "a").size_bytes, 1);
	assert_int_equal(stat_of(p, "a").links, 1);
	ok(cxlshm_release(p->c, a));
	ok(cxlshm_release(p->c, b));
}

static void a_named_heap_object_is_found_by_its_name(void **state)
{
	struct names_pool *p = *state;
	struct cxlshm_stat st;
	cxlshm_ref data, inode, ref;
	uint64_t id;

	ok(cxlshm_alloc(p->c, 1000, &data));
	id = cxlshm_id(p->c, data);
	memcpy(cxlshm_ptr(p->c, data), "hello", 6);
	ok(cxlshm_link(p->c, data, 0, "data", 0604));
	ok(cxlshm_release(p->c, data));
	ok(cxlshm_lookup(p->c, 0, "data", 0, &ref));
	assert_int_equal(cxlshm_id(p->c, ref), id);
	assert_string_equal(cxlshm_ptr(p->c, ref), "hello");
	ok(cxlshm_lookup(p->c, 0, "data", CXLSHM_INODE, &inode));
	ok(cxlshm_stat(p->c, inode, &st));
	assert_int_equal(st.kind, CXLSHM_KIND_NAMED);
	assert_int_equal(st.data_id, id);
	assert_int_equal(st.size_bytes, 1000);
	assert_int_equal(st.mode, S_IFREG | 0604);
	ok(cxlshm_release(p->c, ref));
	ok(cxlshm_named_object(p->c, inode, &ref));
	assert_int_equal(cxlshm_id(p->c, ref), id);
	fails(cxlshm_named_object(p->c, ref, &data), EINVAL);
	/* A hard link of the inode shares it. */
	ok(cxlshm_link(p->c, inode, 0, "more", 0));
	assert_int_equal(id_of(p, "more"), st.id);
	assert_int_equal(stat_of(p, "more").links, 2);
	ok(cxlshm_release(p->c, inode));
	ok(cxlshm_unlink(p->c, 0, "data"));
	ok(cxlshm_unlink(p->c, 0, "more"));
	ok(cxlshm_stat(p->c, ref, &st));
	assert_int_equal(st.refs, 1);
	assert_int_equal(st.size_bytes, 1000);
	ok(cxlshm_release(p->c, ref));
}

static void symlinks_and_special_nodes_keep_what_they_are(void **state)
{
	struct names_pool *p = *state;
	char text[5000], target[5000];
	cxlshm_ref ref;

	memset(text, 't', sizeof(text));
	text[4095] = 0;
	ok(cxlshm_symlink(p->c, "a/b", 0, "link", &ref));
	assert_int_equal(cxlshm_readlink(p->c, ref, target, sizeof(target)), 3);
	assert_string_equal(target, "a/b");
	assert_int_equal(cxlshm_readlink(p->c, ref, target, 3), 3);
	assert_string_equal(target, "a/");
	ok(cxlshm_release(p->c, ref));
	ok(cxlshm_symlink(p->c, text, 0, "long", &ref));
	assert_int_equal(cxlshm_readlink(p->c, ref, target, sizeof(target)), 4095);
	assert_string_equal(target, text);
	ok(cxlshm_release(p->c, ref));
	assert_int_equal(stat_of(p, "long").size_bytes, 4095);
	assert_int_equal(stat_of(p, "link").mode, S_IFLNK | 0777);
	text[4095] = 't';
	text[4096] = 0;
	fails(cxlshm_symlink(p->c, text, 0, "longer", NULL), ENAMETOOLONG);
	fails(cxlshm_symlink(p->c, "", 0, "empty", NULL), EINVAL);
	ok(cxlshm_mknod(p->c, 0, "fifo", S_IFIFO | 0600, NULL));
	ok(cxlshm_mknod(p->c, 0, "socket", S_IFSOCK | 0600, NULL));
	fails(cxlshm_mknod(p->c, 0, "device", S_IFCHR | 0600, NULL), EINVAL);
	assert_int_equal(stat_of(p, "fifo").kind, CXLSHM_KIND_SPECIAL);
	assert_int_equal(stat_of(p, "socket").mode, S_IFSOCK | 0600);
	ok(cxlshm_lookup(p->c, 0, "fifo", 0, &ref));
	fails(cxlshm_readlink(p->c, ref, target, sizeof(target)), EINVAL);
	ok(cxlshm_release(p->c, ref));
}

/* ---- removing ---- */

static void unlinking_the_last_name_and_releasing_frees_everything(void **state)
{
	struct names_pool *p = *state;
	uint64_t before = objects(p);
	struct cxlshm_stat st;
	cxlshm_ref ref;

	ok(cxlshm_create(p->c, 0, "f", 4096, 0600, &ref));
	ok(cxlshm_link(p->c, ref, 0, "g", 0));
	assert_int_equal(stat_of(p, "g").links, 2);
	fails(cxlshm_link(p->c, ref, 0, "g", 0), EEXIST);
	ok(cxlshm_unlink(p->c, 0, "f"));
	fails(cxlshm_unlink(p->c, 0, "f"), ENOENT);
	ok(cxlshm_unlink(p->c, 0, "g"));
	ok(cxlshm_stat(p->c, ref, &st));
	assert_int_equal(st.links, 0);
	assert_int_equal(st.size_bytes, 4096);
	assert_int_equal(st.refs, 1);
	/* It may get a name again. */
	ok(cxlshm_link(p->c, ref, 0, "h", 0));
	ok(cxlshm_unlink(p->c, 0, "h"));
	ok(cxlshm_release(p->c, ref));
	/* Nodes may have been made on the way; with three names in one directory only by chance. */
	assert_true(objects(p) - before <= 15);
}

static void only_an_empty_directory_is_removed(void **state)
{
	struct names_pool *p = *state;
	cxlshm_ref d, ref;

	ok(cxlshm_mkdir(p->c, 0, "d", 0755, &d));
	ok(cxlshm_create(p->c, d, "f", 0, 0600, &ref));
	fails(cxlshm_rmdir(p->c, 0, "d"), ENOTEMPTY);
	fails(cxlshm_rmdir(p->c, 0, "d/f"), ENOTDIR);
	fails(cxlshm_unlink(p->c, 0, "d"), EISDIR);
	fails(cxlshm_link(p->c, d, 0, "e", 0), EPERM);
	ok(cxlshm_unlink(p->c, d, "f"));
	ok(cxlshm_rmdir(p->c, 0, "d"));
	fails(cxlshm_rmdir(p->c, 0, "d"), ENOENT);
	/* Nothing slips into it any more. */
	fails(cxlshm_create(p->c, d, "f", 0, 0600, NULL), ENOENT);
	fails(cxlshm_link(p->c, ref, d, "f", 0), ENOENT);
	fails(cxlshm_rename(p->c, 0, "d", 0, "e", 0), ENOENT);
	ok(cxlshm_mkdir(p->c, 0, "d", 0755, NULL));
	ok(cxlshm_create(p->c, 0, "g", 0, 0600, NULL));
	fails(cxlshm_rename(p->c, 0, "g", d, "g", 0), ENOENT);
	assert_true(id_of(p, "g") != 0);
	ok(cxlshm_release(p->c, d));
	ok(cxlshm_release(p->c, ref));
}

/* ---- renaming ---- */

static void rename_moves_and_replaces(void **state)
{
	struct names_pool *p = *state;
	struct cxlshm_stat st;
	uint64_t a, b;
	cxlshm_ref ref;

	ok(cxlshm_create(p->c, 0, "a", 1, 0600, NULL));
	ok(cxlshm_create(p->c, 0, "b", 2, 0600, &ref));
	ok(cxlshm_mkdir(p->c, 0, "d", 0755, NULL));
	a = id_of(p, "a");
	b = id_of(p, "b");
	fails(cxlshm_rename(p->c, 0, "a", 0, "b", CXLSHM_NOREPLACE), EEXIST);
	fails(cxlshm_rename(p->c, 0, "x", 0, "b", 0), ENOENT);
	ok(cxlshm_rename(p->c, 0, "a", 0, "d/a", CXLSHM_NOREPLACE));
	assert_int_equal(id_of(p, "d/a"), a);
	assert_int_equal(id_of(p, "a"), 0);
	ok(cxlshm_rename(p->c, 0, "d/a", 0, "b", 0));
	assert_int_equal(id_of(p, "b"), a);
	assert_int_equal(id_of(p, "d/a"), 0);
	assert_int_equal(stat_of(p, "b").links, 1);
	assert_int_equal(stat_of(p, "d").size_bytes, 0);
	assert_int_equal(stat_of(p, "").size_bytes, 2);
	ok(cxlshm_stat(p->c, ref, &st));
	assert_int_equal(st.links, 0);
	assert_int_equal(st.id, b);
	ok(cxlshm_release(p->c, ref));
	ok(cxlshm_rename(p->c, 0, "b", 0, "b", 0));
	assert_int_equal(id_of(p, "b"), a);
	fails(cxlshm_rename(p->c, 0, "b", 0, "b", CXLSHM_NOREPLACE), EEXIST);
	/* Two names of one file: nothing happens. */
	ok(cxlshm_lookup(p->c, 0, "b", 0, &ref));
	ok(cxlshm_link(p->c, ref, 0, "c", 0));
	ok(cxlshm_release(p->c, ref));
	ok(cxlshm_rename(p->c, 0, "b", 0, "c", 0));
	assert_int_equal(id_of(p, "b"), a);
	assert_int_equal(id_of(p, "c"), a);
	fails(cxlshm_rename(p->c, 0, "b", 0, "d", 0), EISDIR);
	fails(cxlshm_rename(p->c, 0, "d", 0, "b", 0), ENOTDIR);
	fails(cxlshm_rename(p->c, 0, "b", 0, "x", 64), EINVAL);
	fails(cxlshm_rename(p->c, 0, "b", 0, "c", CXLSHM_NOREPLACE | CXLSHM_EXCHANGE), EINVAL);
}

static void directories_move_and_replace_empty_ones(void **state)
{
	struct names_pool *p = *state;
	cxlshm_ref old;
	uint64_t d;

	ok(cxlshm_mkdir(p->c, 0, "d", 0755, NULL));
	ok(cxlshm_mkdir(p->c, 0, "d/e", 0755, NULL));
	ok(cxlshm_mkdir(p->c, 0, "d/e/f", 0755, NULL));
	ok(cxlshm_mkdir(p->c, 0, "x", 0755, NULL));
	ok(cxlshm_mkdir(p->c, 0, "y", 0755, &old));
	d = id_of(p, "d");
	fails(cxlshm_rename(p->c, 0, "d", 0, "d/e/f/d", 0), EINVAL);
	fails(cxlshm_rename(p->c, 0, "d", 0, "d/d", 0), EINVAL);
	fails(cxlshm_rename(p->c, 0, "x", 0, "d", 0), ENOTEMPTY);
	fails(cxlshm_rename(p->c, 0, "d/e/f", 0, "d", 0), ENOTEMPTY);
	ok(cxlshm_rename(p->c, 0, "d", 0, "x/d", 0));
	names_check(p);
	assert_int_equal(id_of(p, "x/d"), d);
	assert_true(id_of(p, "x/d/e/f") != 0);
	fails(cxlshm_rename(p->c, 0, "x", 0, "x/d/e/x", 0), EINVAL);
	ok(cxlshm_rename(p->c, 0, "x/d", 0, "y", 0));
	names_check(p);
	assert_int_equal(id_of(p, "y"), d);
	/* What was replaced is removed: nothing slips into it. */
	fails(cxlshm_create(p->c, old, "f", 0, 0600, NULL), ENOENT);
	ok(cxlshm_release(p->c, old));
	ok(cxlshm_rename(p->c, 0, "y", 0, "z", 0));
	assert_int_equal(id_of(p, "z"), d);
	ok(cxlshm_rmdir(p->c, 0, "z/e/f"));
	ok(cxlshm_rmdir(p->c, 0, "z/e"));
	ok(cxlshm_rmdir(p->c, 0, "z"));
	ok(cxlshm_rmdir(p->c, 0, "x"));
	assert_int_equal(stat_of(p, "").size_bytes, 0);
}

static void exchange_swaps_whatever_they_are(void **state)
{
	struct names_pool *p = *state;
	uint64_t f, d, e;

	ok(cxlshm_create(p->c, 0, "f", 0, 0600, NULL));
	ok(cxlshm_mkdir(p->c, 0, "d", 0755, NULL));
	ok(cxlshm_mkdir(p->c, 0, "d/e", 0755, NULL));
	ok(cxlshm_mkdir(p->c, 0, "g", 0755, NULL));
	f = id_of(p, "f");
	d = id_of(p, "d");
	e = id_of(p, "d/e");
	fails(cxlshm_rename(p->c, 0, "f", 0, "x", CXLSHM_EXCHANGE), ENOENT);
	fails(cxlshm_rename(p->c, 0, "d", 0, "d/e", CXLSHM_EXCHANGE), EINVAL);
	fails(cxlshm_rename(p->c, 0, "d/e", 0, "d", CXLSHM_EXCHANGE), EINVAL);
	ok(cxlshm_rename(p->c, 0, "f", 0, "d/e", CXLSHM_EXCHANGE));
	names_check(p);
	assert_int_equal(id_of(p, "d/e"), f);
	assert_int_equal(id_of(p, "f"), e);
	ok(cxlshm_rename(p->c, 0, "d", 0, "f", CXLSHM_EXCHANGE));
	names_check(p);
	assert_int_equal(id_of(p, "f"), d);
	assert_int_equal(id_of(p, "d"), e);
	ok(cxlshm_rename(p->c, 0, "f/e", 0, "f/e", CXLSHM_EXCHANGE));
	ok(cxlshm_rename(p->c, 0, "f/e", 0, "g", CXLSHM_EXCHANGE));
	assert_int_equal(id_of(p, "g"), f);
	assert_int_equal(stat_of(p, "g").links, 1);
	assert_int_equal(stat_of(p, "f").size_bytes, 1);
	assert_int_equal(stat_of(p, "").size_bytes, 3);
}

/* ---- listing ---- */

static void a_listing_shows_each_entry_once_and_goes_on_after_changes(void **state)
{
	struct names_pool *p = *state;
	char name[32], seen[4000] = "";
	struct cxlshm_dirent entry;
	uint64_t position = 0, last = 0;
	cxlshm_ref d, ref;
	int n, rc, listed = 0;

	ok(cxlshm_mkdir(p->c, 0, "d", 0755, &d));
	fails(cxlshm_readdir(p->c, d, &position, &entry, NULL), ENOENT);
	for (n = 0; n < 1000; n++) {
		snprintf(name, sizeof(name), "n%d", n);
		ok(cxlshm_mknod(p->c, d, name, S_IFIFO | 0600, NULL));
	}
	while (!(rc = cxlshm_readdir(p->c, d, &position, &entry, listed % 100 ? NULL : &ref))) {
		assert_true(position > last);
		assert_int_equal(entry.position, position);
		assert_int_equal(entry.kind, CXLSHM_KIND_SPECIAL);
		assert_int_equal(entry.mode, S_IFIFO | 0600);
		last = position;
		if (!(listed % 100)) {
			assert_int_equal(cxlshm_id(p->c, ref), entry.id);
			ok(cxlshm_release(p->c, ref));
		}
		n = atoi(entry.name + 1);
		assert_int_equal(seen[n]++, 0);
		listed++;
		/* Other names come and go meanwhile. */
		snprintf(name, sizeof(name), "n%d", 1000 + listed);
		ok(cxlshm_mknod(p->c, d, name, S_IFIFO | 0600, NULL));
		if (n >= 1000)
			continue;
		if (n & 1) {
			snprintf(name, sizeof(name), "n%d", n);
			ok(cxlshm_unlink(p->c, d, name));
		}
		if (listed > 1500)
			break;
	}
	for (n = 0; rc && n < 1000; n++)
		assert_int_equal(seen[n], 1);
	position = UINT64_MAX;
	fails(cxlshm_readdir(p->c, d, &position, &entry, NULL), ENOENT);
	ok(cxlshm_lookup(p->c, d, "n0", 0, &ref));
	position = 0;
	fails(cxlshm_readdir(p->c, ref, &position, &entry, NULL), ENOTDIR);
	ok(cxlshm_release(p->c, ref));
	ok(cxlshm_release(p->c, d));
}

/* ---- attributes ---- */

static void attributes_change_each_by_itself(void **state)
{
	struct names_pool *p = *state;
	struct cxlshm_stat st, now, set = {.mode = 0123, .uid = 7, .gid = 8};
	const char *path[] = {"f", "d"};
	cxlshm_ref ref, data;

	set.atime = (struct timespec){1000, 1};
	set.mtime = (struct timespec){2000, 2};
	set.ctime = (struct timespec){4000000000, 3};
	ok(cxlshm_create(p->c, 0, "f", 0, 0600, NULL));
	ok(cxlshm_mkdir(p->c, 0, "d", 0700, NULL));
	for (int i = 0; i < 2; i++) {
		ok(cxlshm_lookup(p->c, 0, path[i], 0, &ref));
		ok(cxlshm_stat(p->c, ref, &st));
		ok(cxlshm_setattr(p->c, ref, &set, CXLSHM_SET_UID | CXLSHM_SET_MTIME));
		ok(cxlshm_stat(p->c, ref, &now));
		assert_int_equal(now.uid, 7);
		assert_int_equal(now.gid, st.gid);
		assert_int_equal(now.mode, st.mode);
		assert_int_equal(now.mtime.tv_sec, 2000);
		assert_int_equal(now.mtime.tv_nsec, 2);
		assert_int_equal(now.atime.tv_sec, st.atime.tv_sec);
		assert_true(now.ctime.tv_sec >= st.ctime.tv_sec);
		ok(cxlshm_setattr(p->c, ref, &set, CXLSHM_SET_MODE | CXLSHM_SET_GID | CXLSHM_SET_ATIME | CXLSHM_SET_CTIME));
		ok(cxlshm_stat(p->c, ref, &now));
		assert_int_equal(now.mode, (st.mode & S_IFMT) | 0123);
		assert_int_equal(now.gid, 8);
		assert_int_equal(now.uid, 7);
		assert_int_equal(now.atime.tv_sec, 1000);
		assert_int_equal(now.ctime.tv_sec, 4000000000);
		assert_int_equal(now.btime.tv_sec, st.btime.tv_sec);
		fails(cxlshm_setattr(p->c, ref, &set, 64), EINVAL);
		ok(cxlshm_release(p->c, ref));
	}
	ok(cxlshm_alloc(p->c, 8, &data));
	fails(cxlshm_setattr(p->c, data, &set, CXLSHM_SET_MODE), EINVAL);
	ok(cxlshm_stat(p->c, data, &now));
	assert_int_equal(now.kind, CXLSHM_KIND_HEAP);
	assert_int_equal(now.size_bytes, 8);
	ok(cxlshm_release(p->c, data));
}

static void a_change_in_a_directory_moves_its_times(void **state)
{
	struct names_pool *p = *state;
	struct cxlshm_stat zero = {0};
	cxlshm_ref d;
	int step;

	ok(cxlshm_mkdir(p->c, 0, "d", 0755, &d));
	for (step = 0; step < 5; step++) {
		struct cxlshm_stat st;

		ok(cxlshm_setattr(p->c, d, &zero, CXLSHM_SET_MTIME | CXLSHM_SET_CTIME));
		switch (step) {
		case 0:
			ok(cxlshm_create(p->c, d, "a", 0, 0600, NULL));
			break;
		case 1:
			ok(cxlshm_rename(p->c, d, "a", d, "b", 0));
			break;
		case 2:
			ok(cxlshm_unlink(p->c, d, "b"));
			break;
		case 3:
			ok(cxlshm_mkdir(p->c, d, "e", 0700, NULL));
			break;
		case 4:
			ok(cxlshm_rmdir(p->c, d, "e"));
			break;
		}
		ok(cxlshm_stat(p->c, d, &st));
		assert_true(st.mtime.tv_sec > 0 && st.ctime.tv_sec > 0);
	}
	ok(cxlshm_release(p->c, d));
}

/* ---- limits and damage ---- */

static void two_names_with_one_hash_do_not_fit(void **state)
{
	struct names_pool *p = *state;
	struct client *c = (struct client *)p->c;
	struct names_key key = names_key_of(c, "a", 1);
	struct names_spot s;
	cxlshm_ref ref;

	ok(cxlshm_mknod(p->c, 0, "a", S_IFIFO | 0600, NULL));
	ok(names_find(c, c->pool->super->root_dir, &key, &s));
	/* No two such names are known: make one by damage. */
	names_entry(c, s.entry)->name[0] = 'b';
	fails(cxlshm_lookup(p->c, 0, "a", 0, &ref), ENOENT);
	fails(cxlshm_mknod(p->c, 0, "a", S_IFIFO | 0600, NULL), ENOSPC);
	fails(cxlshm_unlink(p->c, 0, "a"), ENOENT);
	ok(cxlshm_mknod(p->c, 0, "c", S_IFIFO | 0600, NULL));
	fails(cxlshm_rename(p->c, 0, "c", 0, "a", 0), ENOSPC);
	names_entry(c, s.entry)->name[0] = 'a';
}

static void damaged_entries_are_reported_not_followed(void **state)
{
	struct names_pool *p = *state;
	struct client *c = (struct client *)p->c;
	struct names_key key = names_key_of(c, "a", 1);
	struct cxlshm_dirent dirent;
	struct entry_fmt good, *entry;
	struct names_spot s;
	cxlshm_ref ref;

	ok(cxlshm_mknod(p->c, 0, "a", S_IFIFO | 0600, NULL));
	ok(names_find(c, c->pool->super->root_dir, &key, &s));
	entry = names_entry(c, s.entry);
	memcpy(&good, entry, sizeof(good));
	for (int i = 0; i < 5; i++) {
		uint64_t position = 0;

		switch (i) {
		case 0:
			entry->name_bytes = 5000;
			break;
		case 1:
			entry->kind = 77;
			break;
		case 2:
			a64_store_relaxed(&entry->inode, c->pool->heap_bytes - 16);
			break;
		case 3:
			a64_store_relaxed(&entry->inode, 8);
			break;
		case 4:
			entry->kind = OBJECT_DIRECTORY;
			break;
		}
		fails(cxlshm_lookup(p->c, 0, "a", 0, &ref), EUCLEAN);
		fails(cxlshm_readdir(p->c, 0, &position, &dirent, NULL), EUCLEAN);
		fails(cxlshm_unlink(p->c, 0, "a"), EUCLEAN);
		memcpy(entry, &good, sizeof(good));
	}
	/* A hash that cannot lie where it does: behind the last one a listing would begin again. */
	for (int i = 0; i < 2; i++) {
		uint64_t position = 0;

		entry->hash = i ? good.hash ^ 1ull << 56 : UINT64_MAX;
		fails(cxlshm_readdir(p->c, 0, &position, &dirent, NULL), EUCLEAN);
		assert_int_equal(position, 0);
		entry->hash = good.hash;
	}
	ok(cxlshm_unlink(p->c, 0, "a"));
}

/* Whoever takes a slot that was damaged to look free waits neither for itself, nor do others for it. */
static void a_damaged_turn_makes_nobody_wait(void **state)
{
	struct names_pool *p = *state;
	struct pool *pool = (struct pool *)p->pool;
	uint32_t next = ((struct client *)p->c)->cid + 1;
	struct cxlshm_client *other;

	ok(cxlshm_mkdir(p->c, 0, "d", 0700, NULL));
	a64_store_relaxed(&pool_slot(pool, next)->moving_dir, 1);
	a128_store_release(&pool->shared->dir_move, (struct stamped){next, stamp_make(next, 1)});
	ok(cxlshm_join(p->pool, "other", 0, &other));
	assert_int_equal(((struct client *)other)->cid, next);
	fails(cxlshm_rename(other, 0, "d", 0, "e", 0), EUCLEAN);
	fails(cxlshm_rename(p->c, 0, "d", 0, "e", 0), EUCLEAN);
	ok(cxlshm_leave(other));
	a128_store_release(&pool->shared->dir_move, (struct stamped){0, stamp_make(next, 1)});
	ok(cxlshm_rename(p->c, 0, "d", 0, "e", 0));
}

static void a_full_pool_refuses_and_stays_in_order(void **state)
{
	struct names_pool *p = *state;
	struct names_pool small;
	char name[32];
	int n = 0, rc;

	(void)p;
	ok(names_open(&small, 1u << 20));
	do {
		snprintf(name, sizeof(name), "%d", n++);
		rc = cxlshm_mkdir(small.c, 0, name, 0700, NULL);
	} while (!rc);
	assert_int_equal(rc, -ENOSPC);
	assert_true(n > 100);
	names_check(&small);
	/* Names go even then. */
	for (int i = 0; i < n - 1; i++) {
		snprintf(name, sizeof(name), "%d", i);
		ok(cxlshm_rmdir(small.c, 0, name));
	}
	names_check(&small);
	ok(cxlshm_mkdir(small.c, 0, "again", 0700, NULL));
	names_close(&small);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, names_setup, names_teardown)
	const struct CMUnitTest tests[] = {
		TEST(a_created_file_is_found_and_has_its_size),
		TEST(names_that_are_none_are_refused),
		TEST(paths_lead_through_directories),
		TEST(a_named_heap_object_is_found_by_its_name),
		TEST(symlinks_and_special_nodes_keep_what_they_are),
		TEST(unlinking_the_last_name_and_releasing_frees_everything),
		TEST(only_an_empty_directory_is_removed),
		TEST(rename_moves_and_replaces),
		TEST(directories_move_and_replace_empty_ones),
		TEST(exchange_swaps_whatever_they_are),
		TEST(a_listing_shows_each_entry_once_and_goes_on_after_changes),
		TEST(attributes_change_each_by_itself),
		TEST(a_change_in_a_directory_moves_its_times),
		TEST(two_names_with_one_hash_do_not_fit),
		TEST(damaged_entries_are_reported_not_followed),
		TEST(a_damaged_turn_makes_nobody_wait),
		TEST(a_full_pool_refuses_and_stays_in_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
