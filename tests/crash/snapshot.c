/* SPDX-License-Identifier: MIT */
/*
 * Taking snapshots and going back to them; see snapshot.h.  The bytes of extents are not kept: no scenario looks at those
 * that it has not written since.
 */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "snapshot.h"

static const struct pool *pool_of(const struct stage *stage)
{
	const struct pool *pool = (const struct pool *)stage->pool;

	for (uint32_t cid = 1; cid <= pool->slots; cid++)
		REQUIRE(!pool->own[cid] || pool->own[cid] == (struct client *)stage->neighbour);
	return pool;
}

void snapshot_take(const struct stage *stage, struct snapshot *s)
{
	const struct pool *pool = pool_of(stage);
	struct dirent *entry;
	DIR *dir = fdopendir(dup(pool->extents_fd));

	REQUIRE(dir);
	memcpy(s->heap, pool->base, pool->heap_bytes);
	s->stage = *stage;
	s->neighbour = *(struct client *)stage->neighbour;
	s->extents = 0;
	rewinddir(dir);
	while ((entry = readdir(dir))) {
		struct stat st;

		if (entry->d_name[0] == '.')
			continue;
		REQUIRE(s->extents < EXTENTS_MAX);
		snprintf(s->extent[s->extents], sizeof(s->extent[0]), "%.23s", entry->d_name);
		MUST(fstatat(pool->extents_fd, entry->d_name, &st, 0));
		s->extent_bytes[s->extents++] = st.st_size;
	}
	closedir(dir);
}

void snapshot_restore(struct stage *stage, const struct snapshot *s)
{
	const struct pool *pool = pool_of(stage);
	struct dirent *entry;
	DIR *dir = fdopendir(dup(pool->extents_fd));

	REQUIRE(dir);
	memcpy(pool->base, s->heap, pool->heap_bytes);
	*stage = s->stage;
	*(struct client *)stage->neighbour = s->neighbour;
	rewinddir(dir);
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			unlinkat(pool->extents_fd, entry->d_name, 0);
	closedir(dir);
	for (unsigned i = 0; i < s->extents; i++) {
		int fd = openat(pool->extents_fd, s->extent[i], O_RDWR | O_CREAT, 0600);

		REQUIRE(fd >= 0);
		MUST(ftruncate(fd, s->extent_bytes[i]));
		close(fd);
	}
}
