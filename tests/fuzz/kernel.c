/* SPDX-License-Identifier: MIT */
/*
 * The kernel's side of a FUSE mount: its books, and what each answer means for them.
 */
#include "kernel.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "damage.h"
#include "idle.h"
#include "monitor.h"
#include "prune.h"

#define ASKER 1	/* the process that all requests come from */

/* ---- the books ---- */

static struct kernel_node *node_find(struct kernel *k, uint64_t id)
{
	for (size_t i = 0; i < k->node_count; i++)
		if (k->nodes[i].id == id)
			return &k->nodes[i];
	return NULL;
}

static void node_seen(struct kernel *k, uint64_t id)
{
	struct kernel_node *node = node_find(k, id);

	/* In a damaged pool a directory may lead back to the root; the kernel refuses it then. */
	MUST(!id || (k->whole && id == FUSE_ROOT_ID));
	if (!node) {
		if (k->node_count == k->node_room) {
			k->node_room = k->node_room ? 2 * k->node_room : 64;
			k->nodes = realloc(k->nodes, k->node_room * sizeof(*k->nodes));
			MUST(!k->nodes);
		}
		node = &k->nodes[k->node_count++];
		*node = (struct kernel_node){.id = id};
		/* Forgotten while it was open, and found again. */
		for (size_t i = 0; i < k->file_count; i++)
			if (k->files[i].node == id && k->files[i].counted) {
				node->opens++;
				node->backing = k->files[i].backing;
			}
	}
	node->lookups++;
}

static void node_forgotten(struct kernel *k, uint64_t id, uint64_t count)
{
	struct kernel_node *node = node_find(k, id);

	if (id == FUSE_ROOT_ID || !node)
		return;
	node->lookups -= count < node->lookups ? count : node->lookups;
	if (!node->lookups)
		*node = k->nodes[--k->node_count];
}

static void file_opened(struct kernel *k, uint64_t node_id, const struct fuse_open_out *out, bool folder)
{
	struct kernel_node *node = node_find(k, node_id);
	struct kernel_file file = {.fh = out->fh, .node = node_id, .folder = folder};

	MUST(!node || !out->fh);
	if (!folder) {
		/* From 6.9 on the padding is the backing id. */
		file.backing = out->open_flags & 1u << 7 ? *(const uint32_t *)&out->padding : 0;
		MUST(file.backing > DEVICE_BACKING_MAX ||
		     (file.backing && device()->backing[file.backing - 1] < 0));
		MUST(!file.backing && !(out->open_flags & FOPEN_DIRECT_IO));
		MUST(node->opens && node->backing != file.backing);
		node->opens++;
		node->backing = file.backing;
		file.counted = true;
	}
	if (k->file_count == k->file_room) {
		k->file_room = k->file_room ? 2 * k->file_room : 16;
		k->files = realloc(k->files, k->file_room * sizeof(*k->files));
		MUST(!k->files);
	}
	k->files[k->file_count++] = file;
}

/* ---- what answers mean ---- */

static const struct fuse_entry_out *entry_of(struct kernel *k, const char *body, size_t bytes, size_t more)
{
	const struct fuse_entry_out *entry = (const struct fuse_entry_out *)body;
	uint32_t type;

	MUST(bytes != sizeof(*entry) + more);
	type = entry->attr.mode & S_IFMT;
	MUST(k->whole && type != S_IFREG && type != S_IFDIR && type != S_IFLNK && type != S_IFIFO && type != S_IFSOCK);
	node_seen(k, entry->nodeid);
	return entry;
}

static void listed(struct kernel *k, const char *body, size_t bytes, bool plus)
{
	while (bytes) {
		const struct fuse_direntplus *both = (const struct fuse_direntplus *)body;
		const struct fuse_dirent *entry = plus ? &both->dirent : (const struct fuse_dirent *)body;
		size_t length = plus ? FUSE_NAME_OFFSET_DIRENTPLUS : FUSE_NAME_OFFSET;

		MUST(bytes < length || bytes - length < entry->namelen);
		length = FUSE_DIRENT_ALIGN(length + entry->namelen);
		MUST(length > bytes || !entry->namelen || entry->namelen > CXLSHM_NAME_MAX);
		MUST(memchr(entry->name, '/', entry->namelen) || memchr(entry->name, 0, entry->namelen));
		if (plus && both->entry_out.nodeid)
			node_seen(k, both->entry_out.nodeid);
		body += length;
		bytes -= length;
	}
}

static void understand(struct kernel *k, uint32_t opcode, uint64_t node_id, const char *body, size_t bytes)
{
	const size_t open_bytes = sizeof(struct fuse_open_out);

	switch (opcode) {
	case FUSE_LOOKUP:
	case FUSE_MKNOD:
	case FUSE_MKDIR:
	case FUSE_SYMLINK:
	case FUSE_LINK:
		entry_of(k, body, bytes, 0);
		break;
	case FUSE_CREATE:
		file_opened(k, entry_of(k, body, bytes, open_bytes)->nodeid,
			    (const struct fuse_open_out *)(body + bytes - open_bytes), false);
		break;
	case FUSE_OPEN:
	case FUSE_OPENDIR:
		MUST(bytes != open_bytes);
		file_opened(k, node_id, (const struct fuse_open_out *)body, opcode == FUSE_OPENDIR);
		break;
	case FUSE_READDIR:
	case FUSE_READDIRPLUS:
		listed(k, body, bytes, opcode == FUSE_READDIRPLUS);
		break;
	case FUSE_GETATTR:
	case FUSE_SETATTR:
		MUST(bytes != sizeof(struct fuse_attr_out));
		break;
	default:
		break;
	}
}

static bool is_answered(const struct kernel *k, uint32_t opcode)
{
	if (!k->ready)
		return true;	/* libfuse refuses all but INIT */
	return opcode != FUSE_FORGET && opcode != FUSE_BATCH_FORGET && opcode != FUSE_INTERRUPT;
}

/* A request of that many bytes goes the way of the session loop; the answer is in the device. */
static void exchange(struct kernel *k, const char *message, size_t bytes, bool gone)
{
	int rc;

	device_ask(message, bytes, gone);
	rc = fuse_session_receive_buf(k->fs->session, k->buffer);
	MUST(rc != (int)bytes);
	/* What an earlier request left there would make a case depend on it. */
	memset((char *)k->buffer->mem + bytes, 0, KERNEL_BODY_MAX);
	fuse_session_process_buf(k->fs->session, k->buffer);
	k->requests++;
}

const char *kernel_send(struct kernel *k, uint32_t opcode, uint64_t node_id, const void *body, size_t bytes,
			unsigned how)
{
	union {
		struct fuse_in_header header;
		char bytes[sizeof(struct fuse_in_header) + KERNEL_BODY_MAX];
	} message;
	struct fuse_out_header answer;

	MUST(bytes > KERNEL_BODY_MAX);
	if (how & KERNEL_CUT)
		bytes /= 2;
	k->unique += 2;
	message.header = (struct fuse_in_header){
		.len = (uint32_t)(sizeof(message.header) + bytes) + (how & KERNEL_LIES ? 4096 : 0),
		.opcode = opcode,
		.unique = k->unique | (opcode == FUSE_INTERRUPT),
		.nodeid = node_id,
		.uid = k->uid,
		.gid = k->gid,
		.pid = ASKER,
	};
	if (bytes)
		memcpy(message.bytes + sizeof(message.header), body, bytes);
	exchange(k, message.bytes, sizeof(message.header) + bytes, how & KERNEL_GONE);
	k->interrupts += opcode == FUSE_INTERRUPT && k->ready;
	k->error = 0;
	if (device()->replies != is_answered(k, opcode)) {
		fprintf(stderr, "opcode %u: %u answers\n", opcode, device()->replies);
		abort();
	}
	if (!device()->replies)
		return NULL;
	memcpy(&answer, device()->reply, sizeof(answer));
	MUST(answer.unique != k->unique);
	k->error = -answer.error;
	if (answer.error || how & KERNEL_GONE)
		return NULL;
	understand(k, opcode, node_id, device()->reply + sizeof(answer), device()->reply_bytes - sizeof(answer));
	return device()->reply + sizeof(answer);
}

void kernel_release(struct kernel *k, size_t index)
{
	struct kernel_file file = k->files[index];
	struct kernel_node *node = node_find(k, file.node);
	struct fuse_release_in in = {.fh = file.fh};

	k->files[index] = k->files[--k->file_count];
	if (node && file.counted)
		node->opens--;
	kernel_send(k, file.folder ? FUSE_RELEASEDIR : FUSE_RELEASE, file.node, &in, sizeof(in), 0);
	MUST(k->error && k->ready);
}

void kernel_forget(struct kernel *k, size_t index, uint64_t count)
{
	struct fuse_forget_in in = {.nlookup = count};
	uint64_t id = k->nodes[index].id;

	if (k->ready)
		node_forgotten(k, id, count);
	kernel_send(k, FUSE_FORGET, id, &in, sizeof(in), 0);
}

void kernel_forget_many(struct kernel *k, const struct fuse_forget_one *what, uint32_t count)
{
	char body[KERNEL_BODY_MAX];
	struct fuse_batch_forget_in *in = (struct fuse_batch_forget_in *)body;

	*in = (struct fuse_batch_forget_in){.count = count};
	MUST(sizeof(*in) + count * sizeof(*what) > sizeof(body));
	memcpy(body + sizeof(*in), what, count * sizeof(*what));
	for (uint32_t i = 0; k->ready && i < count; i++)
		node_forgotten(k, what[i].nodeid, what[i].nlookup);
	kernel_send(k, FUSE_BATCH_FORGET, 0, body, sizeof(*in) + count * sizeof(*what), 0);
}

/* ---- beside the requests ---- */

void kernel_wait(struct kernel *k, uint64_t ns)
{
	const pid_t asker = ASKER;

	device()->clock_ns += ns % 10000000000u;
	idle_work(k->fs, NULL, &asker, ns >> 16 & 1);
}

void kernel_map(struct kernel *k, size_t file, unsigned slot)
{
	void **map = &k->maps[slot % KERNEL_MAPS_MAX];

	if (*map) {
		munmap(*map, 4096);
		*map = NULL;
	} else if (file < k->file_count && k->files[file].backing) {
		*map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, device()->backing[k->files[file].backing - 1], 0);
		if (*map == MAP_FAILED)
			*map = NULL;
	}
}

void kernel_store(struct kernel *k, size_t file, uint64_t offset, uint32_t bytes)
{
	static const char from[4096];

	if (file < k->file_count && k->files[file].backing &&
	    pwrite(device()->backing[k->files[file].backing - 1], from, bytes % sizeof(from), (off_t)(offset % (1 << 20))))
		return;	/* a full file system is the program's affair */
}

/* ---- from the mount to its end ---- */

int kernel_mount(struct kernel *k, const char *pool, enum device_kernel kind, bool sparse, bool whole)
{
	static struct fuse_buf buffer;	/* libfuse allocates a megabyte, the same for each session */
	struct start_failure failure = {.text = ""};
	int rc;

	memset(k, 0, sizeof(*k));
	snprintf(k->pool, sizeof(k->pool), "%s", pool);
	k->mountpoint[0] = '/';
	k->whole = whole;
	k->buffer = &buffer;
	k->options = (struct options){.pool = k->pool, .mountpoint = k->mountpoint, .max_threads = 4, .sparse = sparse};
	device_begin(kind);
	rc = start_fs(&k->options, &k->fs, &failure);
	if (rc) {
		MUST(rc > 0 || !failure.text[0] || !failure.status);
		device_end();
		return rc;
	}
	MUST(passthrough_mount(k->fs->passthrough, k->fs->session, &k->options));
	k->nodes = calloc(64, sizeof(*k->nodes));
	MUST(!k->nodes);
	k->node_room = 64;
	k->nodes[k->node_count++] = (struct kernel_node){.id = FUSE_ROOT_ID, .lookups = 1};
	return 0;
}

void kernel_init(struct kernel *k, uint32_t major, uint32_t minor, uint64_t flags, size_t body_bytes)
{
	struct fuse_init_in in = {.major = major, .minor = minor, .max_readahead = 131072, .flags = (uint32_t)flags,
				  .flags2 = (uint32_t)(flags >> 32)};
	const char *answer = kernel_send(k, FUSE_INIT, 0, &in, body_bytes < sizeof(in) ? body_bytes : sizeof(in), 0);

	if (answer && major == FUSE_KERNEL_VERSION)
		k->ready = true;
}

void kernel_start_threads(struct kernel *k)
{
	MUST(prune_start(k->fs, &k->prune));
	MUST(monitor_start(k->fs, k->prune, &k->monitor));
}

static void forget_everything(struct kernel *k)
{
	struct fuse_forget_one what[100];
	uint32_t count = 0;

	while (k->file_count)
		kernel_release(k, k->file_count - 1);
	if (k->node_count > 1)
		kernel_forget(k, k->node_count - 1, k->nodes[k->node_count - 1].lookups);
	while (k->node_count > 1) {
		for (count = 0; count < 100 && count + 1 < k->node_count; count++)
			what[count] = (struct fuse_forget_one){k->nodes[count + 1].id, k->nodes[count + 1].lookups};
		kernel_forget_many(k, what, count);
	}
}

void kernel_unmount(struct kernel *k)
{
	struct fs *fs = k->fs;

	for (unsigned i = 0; i < KERNEL_MAPS_MAX; i++)
		if (k->maps[i])
			kernel_map(k, SIZE_MAX, i);
	if (!k->ready)
		kernel_init(k, FUSE_KERNEL_VERSION, 38, 0, sizeof(struct fuse_init_in));
	forget_everything(k);
	for (int i = 0; i < 10 && fs->idle_count; i++)
		kernel_wait(k, 1000000000);
	/* Interrupts wait in libfuse for the request they mean; each other one lets one of them go. */
	for (unsigned i = 0; i < k->interrupts; i++)
		kernel_send(k, FUSE_STATFS, FUSE_ROOT_ID, NULL, 0, 0);
	MUST(fs->idle_count || fs->mapped_count || fs->handle_count || fs->backing_count);
	MUST(fs->inode_count != 1);
	MUST(device()->late > k->interrupts);
	kernel_send(k, FUSE_DESTROY, 0, NULL, 0, 0);
	passthrough_unmount(fs->passthrough, fs->session);
	if (k->monitor) {
		monitor_end(k->monitor);
		prune_stop(k->prune);
	}
	lane_stop(&fs->lanes);
	if (k->monitor)
		monitor_stop(k->monitor);
	start_undo(fs);
	free(k->nodes);
	free(k->files);
	device_end();
}
