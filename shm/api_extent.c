/* SPDX-License-Identifier: MIT */
/*
 * The public interface: bytes of file objects.  A mapping made here holds a root reference of its own, noted in the
 * client's private list; after a death the reference goes with the roots, the mapping with the process.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/mman.h>

#include "api.h"

struct mapping {
	struct mapping *next;
	void *address;
	size_t bytes;
	struct root_fmt *row;
};

/* The extent id of the file object behind ref. */
static int find_extent(struct client *c, cxlshm_ref ref, uint64_t *id, uint64_t *off)
{
	uint64_t header;
	int rc = c ? api_usable(c) : -EINVAL;

	if (!rc)
		rc = api_object(c, ref, off, &header);
	if (rc)
		return rc;
	if (object_kind(header) != OBJECT_FILE)
		return -EINVAL;
	*id = inode_extent(c, *off);
	return *id ? 0 : -EUCLEAN;
}

int cxlshm_resize(struct cxlshm_client *client, cxlshm_ref ref, uint64_t size_bytes)
{
	struct client *c = api_client(client);
	uint64_t id, off;
	int rc = find_extent(c, ref, &id, &off);

	if (rc)
		return rc;
	if (size_bytes > INT64_MAX)
		return -EFBIG;
	API_WITH_ROOM(c, rc, size_bytes, extent_resize(c, id, size_bytes));
	return rc;
}

int cxlshm_reserve(struct cxlshm_client *client, cxlshm_ref ref, int mode, uint64_t offset, uint64_t length)
{
	struct client *c = api_client(client);
	uint64_t id, off;
	int rc = find_extent(c, ref, &id, &off);

	if (rc)
		return rc;
	if (!length || offset > INT64_MAX || length > INT64_MAX - offset)
		return length ? -EFBIG : -EINVAL;
	API_WITH_ROOM(c, rc, length, extent_reserve(c, id, mode, offset, length));
	return rc;
}

int cxlshm_map(struct cxlshm_client *client, cxlshm_ref ref, uint64_t offset, size_t length, int prot, void **address)
{
	struct client *c = api_client(client);
	struct mapping *m;
	uint64_t id, off;
	int fd, rc;

	rc = find_extent(c, ref, &id, &off);
	if (rc)
		return rc;
	if (!length || offset & 4095 || !address)
		return -EINVAL;
	m = malloc(sizeof(*m));
	if (!m)
		return -ENOMEM;
	rc = api_take_row(c, &m->row);
	if (rc)
		goto free_m;
	rc = ref_attach(c, off, m->row);
	if (rc)
		goto give_row;
	fd = extent_open(c->pool, id, prot & PROT_WRITE ? O_RDWR : O_RDONLY);
	rc = fd;
	if (fd < 0)
		goto drop_row;
	m->bytes = length;
	m->address = mmap(NULL, length, prot, MAP_SHARED, fd, (off_t)offset);
	rc = -errno;
	close(fd);
	if (m->address == MAP_FAILED)
		goto drop_row;
	m->next = c->mappings;
	c->mappings = m;
	*address = m->address;
	return 0;
drop_row:
	ref_drop_row(c, m->row);
	free(m);
	return rc;
give_row:
	root_give(c, m->row);
free_m:
	free(m);
	return rc;
}

int cxlshm_unmap(struct cxlshm_client *client, void *address)
{
	struct client *c = api_client(client);

	if (!c)
		return -EINVAL;
	for (struct mapping **link = &c->mappings; *link; link = &(*link)->next) {
		struct mapping *m = *link;

		if (m->address != address)
			continue;
		munmap(m->address, m->bytes);
		*link = m->next;
		if (!api_usable(c))
			ref_drop_row(c, m->row);
		free(m);
		return 0;
	}
	return -EINVAL;
}

void api_unmap_all(struct client *c)
{
	while (c->mappings)
		cxlshm_unmap((struct cxlshm_client *)c, c->mappings->address);
}

int cxlshm_extent_open(struct cxlshm_client *client, cxlshm_ref ref, int flags)
{
	struct client *c = api_client(client);
	uint64_t id, off;
	int rc = find_extent(c, ref, &id, &off);

	return rc ? rc : extent_open(c->pool, id, flags);
}

int cxlshm_extent_busy(struct cxlshm_client *client, cxlshm_ref ref)
{
	struct client *c = api_client(client);
	uint64_t id, off;
	int rc = find_extent(c, ref, &id, &off);

	return rc ? rc : extent_busy(c->pool, id);
}
