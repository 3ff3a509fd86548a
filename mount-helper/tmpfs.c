/* SPDX-License-Identifier: MIT */
/*
 * See tmpfs.h.  Which options a kernel takes is found by asking it, the best first: what it does not
 * know, it refuses with EINVAL.
 */
#include "tmpfs.h"

#include <errno.h>
#include <inttypes.h>
#include <mntent.h>
#include <numa.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

#define SOURCE "cxlshm"	/* how mount(8) and we recognise it */
#define HUGE_FROM_BYTES (256ull << 20)	/* from here on a segment is whole huge pages */
#define FILES_MIN (1ull << 20)
#define FILE_BYTES 4096ull

enum tmpfs_there tmpfs_at(const char *path)
{
	enum tmpfs_there there = TMPFS_NONE;
	FILE *mounts = setmntent("/proc/self/mounts", "r");
	struct mntent entry, *m;
	char text[8192];

	if (!mounts)
		return TMPFS_NONE;
	/* The last one lies on top. */
	while ((m = getmntent_r(mounts, &entry, text, (int)sizeof(text))))
		if (!strcmp(m->mnt_dir, path))
			there = !strcmp(m->mnt_type, "tmpfs") && !strcmp(m->mnt_fsname, SOURCE) ? TMPFS_OWN
												: TMPFS_OTHER;
	endmntent(mounts);
	return there;
}

/* Node numbers of the memory-only nodes: 2,3. */
static void memory_only_nodes(char *out, size_t size)
{
	struct bitmask *cpus = numa_allocate_cpumask();
	size_t used = 0;

	out[0] = 0;
	for (int n = 0; n <= numa_max_node() && used < size; n++)
		if (numa_node_size64(n, NULL) > 0 && numa_node_to_cpus(n, cpus) == 0 &&
		    numa_bitmask_weight(cpus) == 0)
			used += (size_t)snprintf(out + used, size - used, used ? ",%d" : "%d", n);
	numa_bitmask_free(cpus);
}

/* ",mpol=..." for a policy, "" if there is none or it cannot be understood. */
static void mpol_option(const char *numa, char *out, size_t size)
{
	static const char *const words[][2] = {
		{ "bind:", "bind" }, { "interleave:", "interleave" }, { "preferred:", "prefer" },
	};
	char nodes[128];

	out[0] = 0;
	if (!numa || numa_available() < 0)
		return;
	if (!strcmp(numa, "cxl")) {
		memory_only_nodes(nodes, sizeof(nodes));
		if (nodes[0])
			snprintf(out, size, ",mpol=bind=static:%s", nodes);
		return;
	}
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		const char *list = numa + strlen(words[i][0]);

		if (!strncmp(numa, words[i][0], strlen(words[i][0])) && *list &&
		    strspn(list, "0123456789,-") == strlen(list) && strlen(list) < sizeof(nodes))
			snprintf(out, size, ",mpol=%s=static:%s", words[i][1], list);
	}
}

int tmpfs_mount(const char *path, const struct tmpfs_options *o, int *swappable)
{
	/* Huge pages by a file's size: a segment, or a large file, takes them when it is reserved. */
	static const struct {
		const char *text;
		int swappable;
		int huge;
	} tries[] = {
		{ ",noswap,huge=within_size", 0, 1 },
		{ ",noswap", 0, 0 },
		{ ",huge=within_size", 1, 1 },
		{ "", 1, 0 },
	};
	uint64_t files = o->size_bytes / FILE_BYTES > FILES_MIN ? o->size_bytes / FILE_BYTES : FILES_MIN;
	char base[160], options[512], mpol[160];
	int n;

	n = snprintf(base, sizeof(base), "size=%" PRIu64 ",nr_inodes=%" PRIu64 ",mode=0%o", o->size_bytes, files,
		     (unsigned)o->mode);
	if (o->uid != (uid_t)-1)
		n += snprintf(base + n, sizeof(base) - (size_t)n, ",uid=%u", (unsigned)o->uid);
	if (o->gid != (gid_t)-1)
		n += snprintf(base + n, sizeof(base) - (size_t)n, ",gid=%u", (unsigned)o->gid);
	mpol_option(o->numa, mpol, sizeof(mpol));
	for (int with_mpol = mpol[0] != 0; with_mpol >= 0; with_mpol--) {
		for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
			if (tries[i].huge && o->size_bytes < HUGE_FROM_BYTES)
				continue;
			snprintf(options, sizeof(options), "%s%s%s", base, tries[i].text, with_mpol ? mpol : "");
			if (mount(SOURCE, path, "tmpfs", MS_NOSUID | MS_NODEV, options) == 0) {
				*swappable = tries[i].swappable;
				return 0;
			}
			if (errno != EINVAL)
				return -errno;
		}
	}
	return -EINVAL;
}
