/* SPDX-License-Identifier: MIT */
/*
 * numa: NUMA policies, as words for people, as mbind(2) of the heap and extents, as a mount option of tmpfs.
 *
 *   bind:N[,M...]       only on these nodes
 *   interleave:N,M...   page by page in turn
 *   preferred:N         there while it has room
 *   cxl                 bind to the nodes that have memory and no processors: how CXL memory appears
 *
 * N may be a range, 0-3.  Only syntax and existence of the nodes are checked here; the kernel has the last
 * word.  Policies are static: they mean these nodes whatever cpuset a client runs in.
 */
#include <errno.h>
#include <numa.h>
#include <numaif.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "pool.h"

#ifndef MPOL_F_STATIC_NODES
#define MPOL_F_STATIC_NODES (1 << 15)
#endif

struct numa_policy {
	int mode;	/* MPOL_DEFAULT: none */
	struct bitmask *nodes;
};

/* Nodes with memory that this process may use; memory_only: those without processors. */
static struct bitmask *nodes_there(int memory_only)
{
	struct bitmask *nodes = numa_get_mems_allowed();
	struct bitmask *cpus = numa_allocate_cpumask();

	for (int n = 0; n <= numa_max_node(); n++) {
		if (!numa_bitmask_isbitset(nodes, (unsigned)n))
			continue;
		if (numa_node_size64(n, NULL) <= 0 ||
		    (memory_only && numa_node_to_cpus(n, cpus) == 0 && numa_bitmask_weight(cpus) != 0))
			numa_bitmask_clearbit(nodes, (unsigned)n);
	}
	numa_bitmask_free(cpus);
	return nodes;
}

/* 0,2-3 */
static void nodes_print(const struct bitmask *nodes, char *out, size_t size)
{
	size_t used = 0;

	out[0] = 0;
	for (unsigned n = 0; n < nodes->size && used < size; n++) {
		unsigned last = n;
		int more;

		if (!numa_bitmask_isbitset(nodes, n))
			continue;
		while (last + 1 < nodes->size && numa_bitmask_isbitset(nodes, last + 1))
			last++;
		more = snprintf(out + used, size - used, last > n ? "%s%u-%u" : "%s%u", used ? "," : "", n, last);
		used += more > 0 ? (size_t)more : 0;
		n = last;
	}
}

/* Not numa_parse_nodestring(): that one writes its complaints to stderr, and takes "all" and "!0". */
static int nodes_parse(const char *text, struct bitmask *there, struct bitmask *nodes)
{
	while (*text) {
		unsigned long first, last;
		char *end;

		if (*text < '0' || *text > '9')
			return -EINVAL;
		first = last = strtoul(text, &end, 10);
		if (*end == '-') {
			if (end[1] < '0' || end[1] > '9')
				return -EINVAL;
			last = strtoul(end + 1, &end, 10);
		}
		if (last < first || (*end && (*end != ',' || !end[1])))
			return -EINVAL;
		if (last >= there->size)
			return -ENXIO;
		for (; first <= last; first++) {
			if (!numa_bitmask_isbitset(there, (unsigned)first))
				return -ENXIO;
			numa_bitmask_setbit(nodes, (unsigned)first);
		}
		text = *end ? end + 1 : end;
	}
	return numa_bitmask_weight(nodes) ? 0 : -EINVAL;
}

/* policy->nodes is the caller's to free, on success and with a mode that is not MPOL_DEFAULT. */
static int policy_parse(const char *text, struct numa_policy *policy, struct cxlshm_error *error)
{
	static const struct {
		const char *prefix;
		int mode;
	} modes[] = {
		{ "bind:", MPOL_BIND }, { "interleave:", MPOL_INTERLEAVE }, { "preferred:", MPOL_PREFERRED },
	};
	struct bitmask *there;
	char list[128];
	int rc = -EINVAL;

	policy->mode = MPOL_DEFAULT;
	policy->nodes = NULL;
	if (!text || !*text)
		return 0;
	if (numa_available() < 0)
		return error_set(error, -EINVAL, "NUMA policy %s: this kernel has no NUMA support", text);
	there = nodes_there(0);
	nodes_print(there, list, sizeof(list));
	if (!strcmp(text, "cxl")) {
		policy->nodes = nodes_there(1);
		policy->mode = MPOL_BIND;
		rc = numa_bitmask_weight(policy->nodes) ? 0 :
		     error_set(error, -EINVAL, "NUMA policy cxl: no node has memory and no processors "
			       "(nodes with memory: %s)", list);
		goto out;
	}
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		size_t n = strlen(modes[i].prefix);

		if (strncmp(text, modes[i].prefix, n))
			continue;
		policy->mode = modes[i].mode;
		policy->nodes = numa_allocate_nodemask();
		rc = nodes_parse(text + n, there, policy->nodes);
		if (rc == 0 && policy->mode == MPOL_PREFERRED && numa_bitmask_weight(policy->nodes) != 1)
			rc = error_set(error, -EINVAL, "NUMA policy %s: one node can be preferred, not several",
				       text);
		else if (rc == -ENXIO)
			rc = error_set(error, -EINVAL, "NUMA policy %s: no such node with memory here (there are: "
				       "%s)", text, list);
		else if (rc)
			error_set(error, rc, "NUMA policy %s: not a list of nodes like 0,2-3 (there are: %s)", text,
				  list);
		goto out;
	}
	error_set(error, rc, "NUMA policy %s: unknown; it is bind:N, interleave:N,M, preferred:N or cxl (nodes: "
		  "%s)", text, list);
out:
	numa_bitmask_free(there);
	if (rc && policy->nodes)
		numa_bitmask_free(policy->nodes);
	return rc;
}

int numa_check(const char *text, struct cxlshm_error *error)
{
	struct numa_policy policy;
	int rc = policy_parse(text, &policy, error);

	if (rc == 0 && policy.nodes)
		numa_bitmask_free(policy.nodes);
	return rc;
}

int numa_apply(const struct pool *pool, void *addr, uint64_t bytes)
{
	struct numa_policy policy;
	int rc = policy_parse(pool->super->numa, &policy, NULL);

	if (rc || !policy.nodes)
		return rc;
	if (mbind(addr, bytes, policy.mode | MPOL_F_STATIC_NODES, policy.nodes->maskp, policy.nodes->size + 1,
		  0) != 0)
		rc = -errno;
	numa_bitmask_free(policy.nodes);
	return rc;
}

int numa_apply_fd(const struct pool *pool, int fd)
{
	void *addr;
	int rc;

	if (!pool->super->numa[0])
		return 0;
	/* Nothing in it is touched, so that it reaches behind the file's end does no harm. */
	addr = mmap(NULL, pool->super->pool_bytes, PROT_NONE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (addr == MAP_FAILED)
		return -errno;
	rc = numa_apply(pool, addr, pool->super->pool_bytes);
	munmap(addr, pool->super->pool_bytes);
	return rc;
}

int numa_mount_option(const char *text, char *out, size_t size)
{
	struct numa_policy policy;
	char nodes[128];
	int rc = policy_parse(text, &policy, NULL), n;

	if (rc)
		return rc;
	if (!policy.nodes) {
		if (size)
			out[0] = 0;
		return 0;
	}
	nodes_print(policy.nodes, nodes, sizeof(nodes));
	numa_bitmask_free(policy.nodes);
	n = snprintf(out, size, "mpol=%s=static:%s", policy.mode == MPOL_BIND ? "bind" :
		     policy.mode == MPOL_INTERLEAVE ? "interleave" : "prefer", nodes);
	return n > 0 && (size_t)n < size ? 0 : -ENAMETOOLONG;
}
