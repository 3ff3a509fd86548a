/* SPDX-License-Identifier: MIT */
/*
 * The pairs of operations, and the triples, and to which bounds each is run.
 *
 * Levels are taken in turn, each over all pairs, so that the time goes to the small ones of all before the large ones of any.
 * A pair has a share of half of what is left, and what it does not need goes to the others; those that were late have a larger
 * share in the next round.  The first levels, which are all in the short form, have most of the time for themselves.
 */
#include "interleave.h"

#define LEVELS (sizeof(levels) / sizeof(*levels))

static const struct level levels[] = {
	{1, 0}, {2, 0}, {3, 0}, {0, 1}, {1, 1}, {UNBOUNDED, 0}, {2, 1}, {3, 1}, {0, 2}, {1, 2}, {UNBOUNDED, 1},
};
#define LEVEL_ONE 0u
#define LEVEL_TWO 1u
#define LEVELS_FIRST 5u	/* the first so many; no others in the short form */

static const char *level_name(const struct level *level)
{
	static char text[4][48];
	static unsigned turn;
	char *to = text[turn++ & 3];

	if (level->preemptions == UNBOUNDED)
		snprintf(to, sizeof(*text), "any");
	else
		snprintf(to, sizeof(*text), "%u", level->preemptions);
	if (level->deaths)
		snprintf(to + strlen(to), sizeof(*text) - strlen(to), "+%s", level->deaths == 1 ? "death" : "two");
	return to;
}

static int is_leading(const struct area *area, const struct op *op)
{
	return !area->triples && (!area->leading || op < area->ops + area->leading);
}

/* The operation whose name the text begins with, up to its end or a '+'. */
static const struct op *op_named(const struct area *area, const char *text)
{
	size_t bytes = strcspn(text, "+");
	const struct op *op = area->ops;

	while (op->name && (strlen(op->name) != bytes || memcmp(op->name, text, bytes)))
		op++;
	REQUIRE(op->name);
	return op;
}

static void take_triple(const struct area *area, const char *text, struct pair *out)
{
	*out = (struct pair){.area = area, .actors = ACTORS_MAX};
	snprintf(out->name, sizeof(out->name), "%s.%s", area->name, text);
	for (uint32_t i = 0; i < ACTORS_MAX; i++) {
		REQUIRE(text);
		out->op[i] = op_named(area, text);
		text = strchr(text, '+');
		text += text != NULL;
	}
}

int pair_at(const struct options *o, uint32_t index, struct pair *out)
{
	for (const struct area *const *area = areas; *area; area++) {
		if (o->area && strcmp(o->area, (*area)->name))
			continue;
		for (const char *const *triple = (*area)->triples; triple && *triple; triple++) {
			take_triple(*area, *triple, out);
			if ((!o->pair || !strcmp(o->pair, out->name)) && !index--)
				return 1;
		}
		for (const struct op *a = (*area)->ops; a->name && is_leading(*area, a); a++)
			for (const struct op *b = (*area)->ordered ? (*area)->ops : a; b->name; b++) {
				*out = (struct pair){.area = *area, .op = {a, b}, .actors = 2};
				snprintf(out->name, sizeof(out->name), "%s.%s+%s", (*area)->name, a->name, b->name);
				if ((!o->pair || !strcmp(o->pair, out->name)) && !index--)
					return 1;
			}
	}
	return 0;
}

static uint32_t pair_count(const struct options *o)
{
	struct pair pair;
	uint32_t n = 0;

	while (pair_at(o, n, &pair))
		n++;
	REQUIRE(n <= PAIRS_MAX);
	return n;
}

void pair_set(struct world *w, const struct pair *pair)
{
	for (uint32_t i = 0; i < pair->actors; i++) {
		w->program_count[i] = 1;
		w->program[i][0] = pair->op[i];
	}
	memory_forget_lines();
}

/* Still to be done, and everything smaller with as many deaths is. */
static int is_due(const struct result *r, unsigned level)
{
	if (r->whole[level] || r->failed)
		return 0;
	for (unsigned i = 0; i < level; i++)
		if (levels[i].deaths == levels[level].deaths && !r->whole[i])
			return 0;
	return 1;
}

static void work_level(struct world *w, const struct options *o, const struct pair *pair, struct result *r, unsigned level,
		       double seconds)
{
	struct limits limits = {.seconds = seconds, .first_failures = o->stop ? 1 : 3, .everything = o->everything,
				.no_states = o->no_states};
	uint64_t states = totals->states, sum, ends;
	double from = seconds_now();
	enum search_end end;

	snprintf(working->name, sizeof(working->name), "%s", pair->name);
	working->seed = 0;
	end = search_level(w, &levels[level], &limits, pair->name);
	ends = search_ends(&sum);
	r->spent = end == SEARCH_LATE ? (float)seconds : 0;
	if (end == SEARCH_WHOLE)
		r->whole[level] = 1;
	r->failed = end == SEARCH_FAILED;
	/* No word in conflict, so all orders come to the same, however many switches there are. */
	if (end == SEARCH_WHOLE && !levels[level].deaths && !memory_conflicts() && !o->everything) {
		r->disjoint = 1;
		for (unsigned i = 0; i < LEVELS; i++)
			if (!levels[i].deaths)
				r->whole[i] = 1;
	}
	if (o->verbose)
		printf("%-32s %-10s %-6s %7.2f s %9llu states %7llu ends %6u words in conflict\n", pair->name,
		       level_name(&levels[level]), end == SEARCH_WHOLE ? "whole" : end == SEARCH_LATE ? "late" : "FAILED",
		       seconds_now() - from, (unsigned long long)(totals->states - states), (unsigned long long)ends,
		       memory_conflicts());
}

void pairs_work(struct shared *shared, const struct options *o, double deadline)
{
	uint32_t count = pair_count(o), wanted = o->pair ? (uint32_t)LEVELS : LEVELS_FIRST, idle = 0;
	double rest = o->full && !o->pair ? o->seconds * 0.25 : 0;	/* for all levels */
	struct pair pair = {.name = ""};
	struct world *w = NULL;

	while (count && !shared->stop) {
		uint32_t task = __atomic_fetch_add(&shared->next_task, 1, __ATOMIC_RELAXED), due = 0;
		uint32_t index = task % count, level = task / count % wanted;
		struct result *r = &shared->result[index];
		double left = deadline - rest - seconds_now(), share;
		char was[80];

		if (left < 0.005 || idle++ > wanted * count) {
			if (rest == 0)
				break;
			rest = idle = 0;
			wanted = LEVELS;
			continue;
		}
		/* One alone takes its levels in order, whoever drew which task. */
		if (count == 1)
			for (level = 0; level + 1 < wanted && !is_due(r, level); level++)
				;
		if (!is_due(r, level))
			continue;
		for (uint32_t i = index; i < count; i++)
			due += (uint32_t)is_due(&shared->result[i], level);
		share = left * o->jobs / (due ? due : 1) * (count == 1 ? 1 : 0.5);
		if (share > left)
			share = left;
		/* Again only if there is much more time than before. */
		if (share < 1.5 * r->spent)
			continue;
		idle = 0;
		memcpy(was, pair.name, sizeof(was));
		if (!pair_at(o, index, &pair))
			break;
		/* Should it fault, it is not tried again; and nobody else tries it now. */
		r->failed = 1;
		w = world_for(w, pair.area, pair.actors);
		if (strcmp(was, pair.name))
			pair_set(w, &pair);
		work_level(w, o, &pair, r, level, share > 0.01 ? share : 0.01);
		if (o->stop && totals->failures)
			shared->stop = 1;
	}
	if (w)
		world_delete(w);
}

const char *pairs_where(const struct shared *shared)
{
	static char text[80];
	unsigned whole[LEVELS] = {0}, level = 0;

	for (uint32_t i = 0; i < PAIRS_MAX; i++)
		for (unsigned l = 0; l < LEVELS; l++)
			whole[l] += shared->result[i].whole[l];
	while (level + 1 < LEVELS && whole[level + 1])
		level++;
	snprintf(text, sizeof(text), "preemptions %s: %u whole", level_name(&levels[level]), whole[level]);
	return text;
}

/* Of an area, or of all that have so many actors. */
static void count(const struct shared *shared, const struct options *o, const char *area, uint32_t actors, unsigned *n)
{
	struct pair pair;

	memset(n, 0, (LEVELS + 2) * sizeof(*n));
	for (uint32_t i = 0; pair_at(o, i, &pair); i++) {
		const struct result *r = &shared->result[i];

		if (area ? strcmp(area, pair.area->name) != 0 : actors != pair.actors)
			continue;
		n[0]++;
		n[1] += r->disjoint;
		for (unsigned l = 0; l < LEVELS; l++)
			n[2 + l] += r->whole[l] || (r->disjoint && !levels[l].deaths);
	}
}

static const char *most_name(int preemptions)
{
	return preemptions < 0 ? "none" : level_name(&(struct level){(uint32_t)preemptions, 0});
}

/* Of the pairs that were not run whole to the bounds wanted, how far each got. */
static void say_rest(const struct shared *shared, const struct options *o)
{
	struct pair pair;

	for (uint32_t i = 0; pair_at(o, i, &pair); i++) {
		const struct result *r = &shared->result[i];
		int best[2] = {-1, -1}, wanted[2] = {3, 1};

		for (unsigned l = 0; l < LEVELS; l++)
			if (r->whole[l] && levels[l].deaths < 2 && best[levels[l].deaths] < (int)levels[l].preemptions)
				best[levels[l].deaths] = (int)levels[l].preemptions;
		if (best[0] < wanted[0] || best[1] < wanted[1])
			printf("  not whole: %-32s preemptions %s, beside a death %s%s\n", pair.name, most_name(best[0]),
			       most_name(best[1]), r->failed ? ", failed" : "");
	}
}

void pairs_summary(const struct shared *shared, const struct options *o)
{
	unsigned n[LEVELS + 2];

	printf("  pairs, or triples (3), run whole with so many preemptions, beside so many deaths\n  %-18s %6s %9s", "area",
	       "pairs", "disjoint");
	for (unsigned l = 0; l < LEVELS; l++)
		printf(" %9s", level_name(&levels[l]));
	printf("\n");
	for (const struct area *const *area = areas; *area; area++) {
		count(shared, o, (*area)->name, 0, n);
		if (!n[0])
			continue;
		printf("  %-16s%2s %6u %9u", (*area)->name, (*area)->triples ? "3" : "", n[0], n[1]);
		for (unsigned l = 0; l < LEVELS; l++)
			printf(" %9u", n[2 + l]);
		printf("\n");
	}
	if (o->full)
		say_rest(shared, o);
	for (uint32_t actors = 2; actors <= ACTORS_MAX; actors++) {
		count(shared, o, NULL, actors, n);
		printf("sched: %u %s, %u disjoint; whole with 2 preemptions %u, 3: %u, any: %u;"
		       " beside a death at any step 0: %u, 1: %u, 2: %u, 3: %u, any: %u; two deaths 0: %u, 1: %u\n",
		       n[0], actors == 2 ? "pairs" : "triples", n[1], n[3], n[4], n[7], n[5], n[6], n[8], n[9], n[12], n[10],
		       n[11]);
	}
}

/*
 * A run that found nothing because it came to nothing must not pass.  The long form of all promises that each was run whole
 * with 1 preemption, and of the pairs nine in ten with 2; any other, that something was run whole.
 */
int pairs_enough(const struct shared *shared, const struct options *o)
{
	uint32_t all = 0, pairs = 0, one = 0, two = 0, anything = 0;
	int enough, promise = o->full && !o->pair && !o->area && !o->stop;
	struct pair pair;
	char first[sizeof(pair.name) + 8] = "";

	for (; pair_at(o, all, &pair); all++) {
		const struct result *r = &shared->result[all];
		int some = 0;

		for (unsigned l = 0; l < LEVELS; l++)
			some |= r->whole[l];
		anything += (uint32_t)some;
		one += r->whole[LEVEL_ONE];
		if (!r->whole[LEVEL_ONE] && !first[0])
			snprintf(first, sizeof(first), ", not %s", pair.name);
		pairs += pair.actors == 2;
		two += pair.actors == 2 && r->whole[LEVEL_TWO];
	}
	enough = anything && (!promise || (one == all && two * 10ull >= pairs * 9ull));
	if (promise)
		printf("sched: %s: with 1 preemption %u of %u are whole%s (all must be), with 2 %u of %u pairs (nine in ten must be)\n",
		       enough ? "enough was run" : "NOT ENOUGH WAS RUN", one, all, first, two, pairs);
	else if (!enough)
		printf("sched: NOT ENOUGH WAS RUN: of %u nothing whole\n", all);
	return enough;
}

/* ---- with and without reduction ---- */

static void say_again(const struct options *o, const char *name, const struct level *level, int mode)
{
	const char *form = o->full ? "--long " : "";

	printf("    again: sched --compare %s--pair %s\n", form, name);
	printf("    one by one, at %s: sched --long --verbose --pair %s\n"
	       "                       sched --long --verbose --pair %s --every-access%s\n",
	       level_name(level), name, name, mode > 1 ? " --no-states" : "");
}

int pairs_compare(const struct options *o)
{
	static const char *const small[] = {
		"ref.attach+attach", "ref.attach+detach", "ref.detach+detach", "cell.load+swap", "cell.store+clear",
		"export.import0+import0", "queue.send+send", "spsc.send+receive", "wait_empty.receive_wait+send",
		"memory.free+free", "names.mk_a+rm_a", "mixed.attr+attr",
		"names.look_a+mv_ab", "files.create+unlink",
		"sender_left.send+send+receive", "sender_begun.send+send+receive"};	/* these two in the long form only */
	/* Every access and no memory of states: only where that comes to an end. */
	static const struct level bounds[] = {{1, 0}, {2, 0}, {0, 1}, {1, 1}};
	struct world *w = NULL;
	unsigned compared = 0;
	int differ = 0;

	for (unsigned i = 0; i < (o->quick ? 3 : sizeof(small) / sizeof(*small) - (o->full ? 0 : 2)); i++) {
		struct options one = *o;
		struct pair pair;

		one.pair = small[i];
		if ((o->pair && strcmp(o->pair, small[i])) || !pair_at(&one, 0, &pair))
			continue;
		w = world_for(w, pair.area, pair.actors);
		for (unsigned b = 0; b < sizeof(bounds) / sizeof(*bounds); b++) {
			uint64_t ends[3] = {0}, sum[3] = {0};
			double took[3] = {0};
			enum search_end end[3];
			int other = 0;	/* the mode whose ends are not those of mode 0 */

			for (int mode = 0; mode < 3; mode++) {
				struct limits limits = {.everything = mode > 0, .no_states = mode > 1,
							.seconds = o->full ? 20 : 3};
				double from = seconds_now();

				/* Nobody waits for that. */
				if (mode > 1 && bounds[b].deaths && bounds[b].preemptions) {
					end[mode] = SEARCH_LATE;
					continue;
				}
				pair_set(w, &pair);
				end[mode] = search_level(w, &bounds[b], &limits, pair.name);
				ends[mode] = search_ends(&sum[mode]);
				took[mode] = seconds_now() - from;
			}
			for (int mode = 1; mode < 3; mode++)
				if (end[0] == SEARCH_WHOLE && end[mode] == SEARCH_WHOLE) {
					compared++;
					if (ends[mode] != ends[0] || sum[mode] != sum[0])
						other = mode;
				}
			printf("%-32s %-10s", pair.name, level_name(&bounds[b]));
			for (int mode = 0; mode < 3; mode++) {
				if (end[mode] == SEARCH_WHOLE)
					printf("  %4llu ends %08x %6.2f s", (unsigned long long)ends[mode],
					       (uint32_t)sum[mode], took[mode]);
				else
					printf("  %-28s", "-");
			}
			printf("%s\n", other ? "  DIFFERENT" : "");
			if (other)
				say_again(o, pair.name, &bounds[b], other);
			differ |= other;
		}
	}
	if (w)
		world_delete(w);
	printf("sched: %u searches without reduction compared: %s\n", compared, differ ? "they differ" : "the same ends");
	return differ || !compared;
}
