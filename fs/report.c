/* SPDX-License-Identifier: MIT */
/*
 * report.c: what the files under .cxlshm/ and the user.cxlshm.* attributes say.
 *
 * Owns their formats, which fs/README.md documents: lines of "name value", one table with a heading
 * (clients), and Prometheus text (metrics).  New lines and columns are added at the end only.
 * Threads: any; each report is a snapshot made when the file is opened.
 */
#include "report.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "file.h"

const char *const report_attributes[] = {"id", "kind", "refs", "holders", "size", "mapped", NULL};

static const char *kind_name(enum cxlshm_kind kind)
{
	switch (kind) {
	case CXLSHM_KIND_NONE:
		return "none";
	case CXLSHM_KIND_HEAP:
		return "heap";
	case CXLSHM_KIND_FILE:
		return "file";
	case CXLSHM_KIND_DIRECTORY:
		return "directory";
	case CXLSHM_KIND_SYMLINK:
		return "symlink";
	case CXLSHM_KIND_SPECIAL:
		return "special";
	case CXLSHM_KIND_QUEUE:
		return "queue";
	case CXLSHM_KIND_NAMED:
		return "named";
	case CXLSHM_KIND_INTERNAL:
		return "internal";
	}
	return "unknown";
}

/* A client's name may hold anything; control characters would break lines. */
static void put_name(FILE *out, const char *name, bool quoted)
{
	for (; *name; name++) {
		if ((unsigned char)*name < ' ' || *name == 127)
			fputc('?', out);
		else if (quoted && (*name == '"' || *name == '\\'))
			fprintf(out, "\\%c", *name);
		else
			fputc(*name, out);
	}
}

static int write_pool(struct fs *fs, FILE *out)
{
	const struct cxlshm_pool_info *info = &fs->info;
	struct cxlshm_pool_space space;
	int rc = cxlshm_pool_space(fs->pool, &space);

	if (rc)
		return rc;
	fputs("path ", out);
	put_name(out, fs->options->pool, false);
	fprintf(out, "\nuuid %s\nformat_version %" PRIu32 "\nfailure_domain %s\nnuma %s\n", info->uuid,
		info->format_version, info->failure_domain == CXLSHM_FAILURE_HOST ? "host" : "process",
		info->numa[0] ? info->numa : "none");
	fprintf(out, "size_bytes %" PRIu64 "\nfree_bytes %" PRIu64 "\nheap_bytes %" PRIu64 "\n",
		info->size_bytes, space.free_bytes, info->heap_bytes);
	fprintf(out, "segment_bytes %" PRIu64 "\npage_bytes %" PRIu64 "\nblock_bytes %" PRIu64 "\n",
		info->segment_bytes, info->page_bytes, space.block_bytes);
	fprintf(out, "segments %" PRIu32 "\nclient_slots %" PRIu32 "\nfiles %" PRIu64 "\n", info->segments,
		info->client_slots, space.files);
	return 0;
}

static int write_client(void *arg, const struct cxlshm_client_info *info)
{
	FILE *out = arg;

	fprintf(out, "%" PRIu32 " %s %" PRId64 " %" PRIu64 ".%03" PRIu64, info->id,
		info->alive ? "alive" : "dead", info->pid, info->joined_ns / 1000000000u,
		info->joined_ns / 1000000u % 1000u);
	fprintf(out, " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " ",
		info->era, info->references, info->segments, info->allocations, info->frees, info->attaches,
		info->recoveries);
	put_name(out, info->name, false);
	fputc('\n', out);
	return 0;
}

static int write_clients(struct fs *fs, FILE *out)
{
	fputs("SLOT STATE PID JOINED ERA REFS SEGMENTS ALLOCS FREES ATTACHES RECOVERIES NAME\n", out);
	return cxlshm_each_client(fs->pool, write_client, out);
}

/* What the daemon itself counts. */
struct daemon_counts {
	uint64_t inodes, handles, idle, mapped, backing;
};

static struct daemon_counts count_daemon(struct fs *fs)
{
	struct daemon_counts counts;

	lane_lock(&fs->lanes);
	counts.inodes = fs->inode_count;
	counts.handles = fs->handle_count;
	counts.idle = fs->idle_count - fs->mapped_count;
	counts.mapped = fs->mapped_count;
	counts.backing = fs->backing_count;
	lane_unlock(&fs->lanes);
	return counts;
}

/* One number with everything that stats and metrics say about it. */
struct figure {
	const char *name;	/* in stats; in metrics with cxlshm_ before it */
	const char *type;	/* of Prometheus */
	const char *help;
	double scale;	/* of the metric, for seconds; 0: a whole number */
	uint64_t value;
};

#define FIGURES_MAX 40

static int collect(struct fs *fs, struct figure *figures, size_t *count)
{
	struct daemon_counts daemon = count_daemon(fs);
	struct cxlshm_counters c;
	struct cxlshm_pool_space space;
	struct figure *f = figures;
	struct timespec now;
	int rc = cxlshm_counters(fs->pool, &c);

	if (!rc)
		rc = cxlshm_pool_space(fs->pool, &space);
	if (rc)
		return rc;
#define GAUGE(name, value, help) *f++ = (struct figure){name, "gauge", help, 0, value}
#define COUNTER(name, value, help) *f++ = (struct figure){name, "counter", help, 0, value}
	GAUGE("size_bytes", space.size_bytes, "What the pool may use in all.");
	GAUGE("free_bytes", space.free_bytes, "What can still be reserved.");
	GAUGE("files", space.files, "File objects that exist.");
	GAUGE("clients", c.clients, "Clients in the pool.");
	COUNTER("allocations_total", c.allocations, "Objects allocated.");
	COUNTER("frees_total", c.frees, "Objects freed.");
	COUNTER("attaches_total", c.attaches, "Counted references taken.");
	COUNTER("clients_recovered_total", c.clients_recovered, "Dead clients recovered.");
	COUNTER("references_recovered_total", c.references_recovered, "References of dead clients dropped.");
	GAUGE("segments_free", c.segments_free, "Heap segments nobody uses.");
	GAUGE("segments_owned", c.segments_owned, "Heap segments that belong to a client.");
	GAUGE("segments_orphaned", c.segments_orphaned, "Heap segments of clients gone, to be adopted.");
	GAUGE("segments_span", c.segments_span, "Heap segments in objects larger than one.");
	GAUGE("extents", c.extents, "Extent files.");
	GAUGE("extent_bytes", c.extent_bytes, "Bytes reserved in extents.");
	GAUGE("daemon_passthrough", passthrough_ready(fs->passthrough, fs->session),
	      "1 if the kernel reads, writes and maps extents without the daemon.");
	clock_gettime(CLOCK_MONOTONIC, &now);
	GAUGE("daemon_uptime_seconds", (uint64_t)(now.tv_sec - fs->started_monotonic), "Since this mount was made.");
	GAUGE("daemon_inodes", daemon.inodes, "Inodes the kernel knows of.");
	GAUGE("daemon_handles", daemon.handles, "Open files and directories.");
	GAUGE("daemon_backing_files", daemon.backing, "Extents registered with the kernel.");
	GAUGE("daemon_idle", daemon.idle, "Files closed a moment ago.");
	GAUGE("daemon_mapped", daemon.mapped, "Files closed that a mapping holds on.");
	COUNTER("daemon_requests_total", atomic_load(&fs->requests), "FUSE requests.");
	COUNTER("daemon_opens_total", atomic_load(&fs->opens), "Files opened.");
	COUNTER("daemon_passthrough_opens_total", atomic_load(&fs->opens_passthrough),
		"Files opened with passthrough.");
	COUNTER("daemon_recoveries_total", atomic_load(&fs->deaths), "Dead clients this daemon recovered.");
	COUNTER("daemon_recovered_references_total", atomic_load(&fs->deaths_references),
		"References it dropped for them.");
	*f++ = (struct figure){"daemon_recovery_seconds_total", "counter", "Time it took.", 1e-9,
			       atomic_load(&fs->deaths_ns)};
#undef GAUGE
#undef COUNTER
	*count = (size_t)(f - figures);
	return 0;
}

static void put_value(FILE *out, const struct figure *figure)
{
	if (figure->scale > 0)
		fprintf(out, "%.9f\n", (double)figure->value * figure->scale);
	else
		fprintf(out, "%" PRIu64 "\n", figure->value);
}

static int write_stats(struct fs *fs, FILE *out)
{
	struct figure figures[FIGURES_MAX];
	size_t count;
	int rc = collect(fs, figures, &count);

	for (size_t i = 0; !rc && i < count; i++) {
		fprintf(out, "%s ", figures[i].name);
		put_value(out, &figures[i]);
	}
	return rc;
}

/* The clients' metrics: one family after the other, as the format wants. */
struct client_metric {
	FILE *out;
	const char *name;
	size_t offset;	/* of a uint64_t in struct cxlshm_client_info */
};

static int write_client_metric(void *arg, const struct cxlshm_client_info *info)
{
	const struct client_metric *metric = arg;
	uint64_t value;

	memcpy(&value, (const char *)info + metric->offset, sizeof(value));
	fprintf(metric->out, "cxlshm_client_%s{slot=\"%" PRIu32 "\",pid=\"%" PRId64 "\",name=\"",
		metric->name, info->id, info->pid);
	put_name(metric->out, info->name, true);
	fprintf(metric->out, "\"} %" PRIu64 "\n", value);
	return 0;
}

static int write_metrics(struct fs *fs, FILE *out)
{
	static const struct {
		const char *name, *type, *help;
		size_t offset;
	} families[] = {
		{"references", "gauge", "References the client holds.",
		 offsetof(struct cxlshm_client_info, references)},
		{"segments", "gauge", "Heap segments the client owns.",
		 offsetof(struct cxlshm_client_info, segments)},
		{"era", "counter", "Transactions of the slot.", offsetof(struct cxlshm_client_info, era)},
		{"allocations_total", "counter", "Objects the client allocated.",
		 offsetof(struct cxlshm_client_info, allocations)},
		{"frees_total", "counter", "Objects the client freed.",
		 offsetof(struct cxlshm_client_info, frees)},
		{"attaches_total", "counter", "References the client took.",
		 offsetof(struct cxlshm_client_info, attaches)},
	};
	struct figure figures[FIGURES_MAX];
	size_t count;
	int rc = collect(fs, figures, &count);

	for (size_t i = 0; !rc && i < count; i++) {
		const struct figure *figure = &figures[i];

		fprintf(out, "# HELP cxlshm_%s %s\n# TYPE cxlshm_%s %s\ncxlshm_%s ", figure->name,
			figure->help, figure->name, figure->type, figure->name);
		put_value(out, figure);
	}
	for (size_t i = 0; !rc && i < sizeof(families) / sizeof(families[0]); i++) {
		struct client_metric metric = {out, families[i].name, families[i].offset};

		fprintf(out, "# HELP cxlshm_client_%s %s\n# TYPE cxlshm_client_%s %s\n", metric.name,
			families[i].help, metric.name, families[i].type);
		rc = cxlshm_each_client(fs->pool, write_client_metric, &metric);
	}
	return rc;
}

static int write_holder(void *arg, const struct cxlshm_holder *holder)
{
	FILE *out = arg;

	if (holder->object)
		fprintf(out, "holder object %" PRIu64 " %" PRIu64 "\n", holder->object, holder->references);
	else if (holder->client != UINT32_MAX)
		fprintf(out, "holder client %" PRIu32 " %" PRIu64 "\n", holder->client, holder->references);
	else
		fprintf(out, "holder pool - %" PRIu64 "\n", holder->references);
	return 0;
}

static int write_object(struct fs *fs, uint64_t id, FILE *out)
{
	struct cxlshm_object_info info;
	struct inode *inode;
	int mapped = -1, rc = cxlshm_object_info(fs->pool, id, &info);

	if (rc)
		return rc;
	lane_lock(&fs->lanes);
	inode = inode_find(fs, id);
	if (inode)
		mapped = file_mapped(fs, inode);
	lane_unlock(&fs->lanes);
	fprintf(out, "id %" PRIu64 "\nkind %s\nsize_bytes %" PRIu64 "\nrefs %" PRIu32 "\n", info.id,
		kind_name(info.kind), info.size_bytes, info.refs);
	fprintf(out, "slots %" PRIu32 "\nexposed %" PRIu32 "\nsegment %" PRIu32 "\nmapped %s\n", info.slots,
		info.exposed, info.segment, mapped < 0 ? "-" : mapped ? "1" : "0");
	return cxlshm_each_holder(fs->pool, id, write_holder, out);
}

static int write_version(FILE *out)
{
	fprintf(out, "cxlshm %d.%d.%d\nlibfuse %s\n", CXLSHM_VERSION_MAJOR, CXLSHM_VERSION_MINOR,
		CXLSHM_VERSION_PATCH, fuse_pkgversion());
	return 0;
}

int report_text(struct fs *fs, enum control_kind kind, uint64_t object_id, char **text, size_t *size)
{
	FILE *out = open_memstream(text, size);
	int rc;

	if (!out)
		return -ENOMEM;
	switch (kind) {
	case CONTROL_POOL:
		rc = write_pool(fs, out);
		break;
	case CONTROL_CLIENTS:
		rc = write_clients(fs, out);
		break;
	case CONTROL_STATS:
		rc = write_stats(fs, out);
		break;
	case CONTROL_METRICS:
		rc = write_metrics(fs, out);
		break;
	case CONTROL_VERSION:
		rc = write_version(out);
		break;
	case CONTROL_OBJECT:
		rc = write_object(fs, object_id, out);
		break;
	default:
		rc = -EISDIR;
		break;
	}
	if (fclose(out) && !rc)
		rc = -ENOMEM;
	if (rc) {
		free(*text);
		*text = NULL;
	}
	return rc;
}

/* "SLOT:COUNT,SLOT:COUNT", as much as fits. */
struct holder_list {
	char *at;
	size_t left;
};

static int list_holder(void *arg, const struct cxlshm_holder *holder)
{
	struct holder_list *list = arg;
	char item[48];
	int length = snprintf(item, sizeof(item), ",%" PRIu32 ":%" PRIu64, holder->client,
			      holder->references);

	if ((size_t)length >= list->left)
		return 1;
	memcpy(list->at, item, (size_t)length + 1);
	list->at += length;
	list->left -= (size_t)length;
	return 0;
}

static int write_holders(struct fs *fs, uint64_t id, char *value, size_t size)
{
	struct holder_list list = {value, size};
	int rc;

	*value = 0;
	rc = cxlshm_each_client_holder(fs->pool, id, list_holder, &list);
	if (rc < 0)
		return rc;
	if (*value)
		memmove(value, value + 1, strlen(value));	/* the first comma */
	return 0;
}

/* The object whose facts the attributes tell: of a named heap object the object itself.  Locked. */
static int look(struct fs *fs, struct inode *inode, struct cxlshm_stat *st, enum cxlshm_kind *kind)
{
	struct cxlshm_client *client = fs->lanes.names.client;
	cxlshm_ref object;
	int rc = cxlshm_stat(client, inode->ref, st);

	*kind = inode->kind;
	if (rc || inode->kind != CXLSHM_KIND_NAMED)
		return rc;
	rc = cxlshm_named_object(client, inode->ref, &object);
	if (rc)
		return rc;
	*kind = cxlshm_kind(client, object);
	cxlshm_release(client, object);
	return 0;
}

int report_attribute(struct fs *fs, struct inode *inode, const char *name, char *value, size_t size)
{
	struct cxlshm_object_info info;
	struct cxlshm_stat st;
	enum cxlshm_kind kind;
	int mapped, rc;

	lane_lock(&fs->lanes);
	rc = look(fs, inode, &st, &kind);
	mapped = !rc && !strcmp(name, "mapped") ? file_mapped(fs, inode) : 0;
	lane_unlock(&fs->lanes);
	if (rc)
		return rc;
	if (!strcmp(name, "id")) {
		snprintf(value, size, "%" PRIu64, st.data_id);
	} else if (!strcmp(name, "kind")) {
		snprintf(value, size, "%s", kind_name(kind));
	} else if (!strcmp(name, "refs")) {
		rc = cxlshm_object_info(fs->pool, st.data_id, &info);
		if (!rc)
			snprintf(value, size, "%" PRIu32, info.refs);
	} else if (!strcmp(name, "holders")) {
		rc = write_holders(fs, st.data_id, value, size);
	} else if (!strcmp(name, "size")) {
		snprintf(value, size, "%" PRIu64, st.size_bytes);
	} else if (!strcmp(name, "mapped")) {
		if (mapped < 0)
			rc = mapped;
		else
			snprintf(value, size, "%d", mapped);
	} else {
		rc = -ENODATA;
	}
	return rc ? rc : (int)strlen(value);
}
