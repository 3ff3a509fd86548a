/*
 * Inner nodes of a directory that come and go: freezing, thawing, and who reads in between.
 *
 * One edge `up` is empty or holds the node, which is the memory `cell` (two edges, for the names 0 and 1).  The same memory
 * may be free (zeros), or be used by somebody for his own bytes.  Three processes run the operations given by OP1 to OP3,
 * THEN1 to THEN3; up to CRASHES of them die at any step.  Stamps are unique.
 *
 * Proves, for the scripts check.sh runs: a name that was put where it belongs is there until it is removed; who looks
 * for a name finds it if it was there all the time, and does not find it if it was there at no time; nobody writes into
 * memory that is no node; a node without names is taken out, unless somebody died or another came in between.
 *
 * Left out: more levels (an edge that holds a node is itself in a node that stands, for it is not frozen); what an edge
 * does when only one name is below it (an entry instead of a node); eras and records (era.pml); that the code first looks
 * whether it is worth while (names_bare()).
 */
#ifndef OP1
#define OP1 RM_0
#endif
#ifndef OP2
#define OP2 NOTHING
#endif
#ifndef OP3
#define OP3 NOTHING
#endif
#ifndef THEN1
#define THEN1 NOTHING
#endif
#ifndef THEN2
#define THEN2 NOTHING
#endif
#ifndef THEN3
#define THEN3 NOTHING
#endif
#ifndef CRASHES
#define CRASHES 0
#endif
#define NOTHING 0
#define INS_0 1
#define INS_1 2
#define RM_0 3
#define RM_1 4
#define LOOK_0 5
#define LOOK_1 6
#define USE 7                   /* take the memory if it is free, write bytes, give it back */

#define NONE 0                  /* values of an edge */
#define ENTRY 1
#define FROZEN 2
#define NODE 3

#define FREE 0                  /* what the memory is */
#define PRIVATE 1               /* a node that is being made, or has been taken out */
#define IN_PLACE 2
#define USED 3

typedef Word { byte value, stamp };
Word up, cell[2];
byte memory;
byte now = 1;                   /* the last stamp given */
byte deaths;
byte ended;
/* Ghosts: is the name there; how often it came and went. */
bool there[2];
byte changes[2];
bool spoilt;                    /* a taking out came to nothing: somebody died or came in between */

#define SAME(w, v, s) (w.value == v && w.stamp == s)
/* Freezing what is frozen, in a node that another has just taken out and will drop, spoils nothing. */
#define HARMLESS (memory == IN_PLACE || (memory == PRIVATE && fv[j] == FROZEN))
#define STEP atomic
#define MAY_DIE if :: deaths < CRASHES -> deaths++; spoilt = true; goto dead :: true fi

/* CAS of a word from {v, s} to `to`; done says so. */
inline cas(w, v, s, to) {
	if
	:: SAME(w, v, s) -> now++; w.value = to; w.stamp = now; done = true
	:: else -> done = false
	fi
}

inline free_memory() {
	d_step { cell[0].value = NONE; cell[0].stamp = 0; cell[1].value = NONE; cell[1].stamp = 0; memory = FREE }
}

/* The edge above, then this edge, then the one above again.  u, us; v, s; at is set if it is in place. */
inline read_edge(k) {
	STEP { u = up.value; us = up.stamp }
	if
	:: u == NODE ->
		STEP { v = cell[k].value; s = cell[k].stamp }
#ifdef BUG_READ_OUT_OF_PLACE
		at = true
#else
		STEP { at = SAME(up, u, us) }
#endif
	:: else -> v = NONE; at = true
	fi
}

inline insert(k) {
	do
	:: read_edge(k);
		MAY_DIE;
		if
		:: !at -> skip
		:: at && u == NONE ->
			/* A node with the entry in it, if there is room for one. */
			if
			:: d_step { memory == FREE -> memory = PRIVATE;
#ifdef BUG_EDGE_NO_STAMP
				cell[0].stamp = 0; cell[1].stamp = 0;
#else
				now++; cell[0].stamp = now; cell[1].stamp = now;
#endif
				cell[k].value = ENTRY }
			:: else -> break
			fi;
			MAY_DIE;
			STEP { cas(up, u, us, NODE);
				if :: done -> memory = IN_PLACE; there[k] = true; changes[k]++ :: else fi }
			if
			:: done -> break
			:: else -> free_memory()
			fi
		:: at && u == NODE && v == ENTRY -> break
		:: at && u == NODE && v != ENTRY ->
			done = true;
#ifndef BUG_NO_THAW
			if
			:: v == FROZEN -> STEP { cas(up, u, us, NODE) }
			:: else
			fi;
#endif
			MAY_DIE;
			if
			:: done ->
				STEP { cas(cell[k], v, s, ENTRY);
					if
					:: done ->
						assert(memory == IN_PLACE);
						there[k] = true; changes[k]++
					:: else
					fi }
				if :: done -> break :: else fi
			:: else
			fi
		fi
	od
}

/* Take the node out, if there is nothing in it. */
inline prune() {
	STEP { u = up.value; us = up.stamp }
	if
	:: u == NODE ->
		STEP { fv[0] = cell[0].value; fs[0] = cell[0].stamp }
		STEP { fv[1] = cell[1].value; fs[1] = cell[1].stamp }
#ifdef BUG_FREEZE_OUT_OF_PLACE
		at = true;
#else
		STEP { at = SAME(up, u, us) }
#endif
		if
#ifdef BUG_EDGE_NO_STAMP
		:: at && fv[0] != ENTRY && fv[1] != ENTRY ->
#else
		:: at && fv[0] != ENTRY && fv[1] != ENTRY && fs[0] && fs[1] ->
#endif
			j = 0; done = true;
			do
			:: j < 2 && done ->
#ifdef BUG_NO_FREEZE
				skip;
#else
#ifdef BUG_FROZEN_KEPT
				if :: fv[j] == FROZEN :: else -> STEP { cas(cell[j], fv[j], fs[j], FROZEN); assert(!done || HARMLESS) } fi;
#else
				STEP { cas(cell[j], fv[j], fs[j], FROZEN); assert(!done || HARMLESS) }
#endif
#endif
				MAY_DIE;
				j++
			:: else -> break
			od;
			if
			:: done ->
				STEP { cas(up, u, us, NONE); if :: done -> memory = PRIVATE :: else fi }
				if
				:: done -> MAY_DIE; free_memory()
				:: else -> spoilt = true
				fi
			:: else -> spoilt = true
			fi
		:: else -> spoilt = true
		fi
	:: else
	fi;
	j = 0; fv[0] = 0; fv[1] = 0; fs[0] = 0; fs[1] = 0
}

inline remove(k) {
	do
	:: read_edge(k);
		MAY_DIE;
		if
		:: !at -> skip
		:: at && v != ENTRY -> done = false; break
		:: at && v == ENTRY ->
			STEP { cas(cell[k], v, s, NONE);
				if
				:: done -> assert(memory == IN_PLACE); there[k] = false; changes[k]++
				:: else
				fi }
			if :: done -> break :: else fi
		fi
	od;
	MAY_DIE;
	if :: done -> prune() :: else fi
}

inline look(k) {
	STEP { was = there[k]; seen = changes[k] }
	do
	:: read_edge(k);
		if :: at -> break :: else fi
	od;
	/* If nothing came or went meanwhile, it is as it was. */
	STEP { assert(changes[k] != seen || was == (v == ENTRY)) }
	was = false; seen = 0
}

inline use() {
	if
	:: d_step { memory == FREE -> memory = USED; cell[0].value = ENTRY; cell[1].value = ENTRY }
		free_memory()
	/* What looks like two empty edges. */
	:: d_step { memory == FREE -> memory = USED; cell[0].stamp = 250; cell[1].stamp = 250 }
		free_memory()
	:: else
	fi
}

inline operation(op) {
	if
	:: op == INS_0 -> insert(0)
	:: op == INS_1 -> insert(1)
	:: op == RM_0 -> remove(0)
	:: op == RM_1 -> remove(1)
	:: op == LOOK_0 -> look(0)
	:: op == LOOK_1 -> look(1)
	:: op == USE -> use()
	:: else
	fi;
	u = 0; us = 0; v = 0; s = 0; at = false; done = false
}

proctype client(byte first, then) {
	byte u, us, v, s, j, seen;
	byte fv[2], fs[2];
	bool at, done, was;

	operation(first);
	operation(then);
dead:	ended++
}

init {
	d_step {
		up.value = NODE; up.stamp = 1;
		memory = IN_PLACE;
		now++; cell[0].value = ENTRY; cell[0].stamp = now; cell[1].stamp = now;
#ifdef START_FROZEN
		now++; cell[1].value = FROZEN; cell[1].stamp = now;
#endif
#ifdef BUG_EDGE_NO_STAMP
		cell[0].stamp = 0; cell[1].stamp = 0;
#endif
		there[0] = true
	}
	atomic { run client(OP1, THEN1); run client(OP2, THEN2); run client(OP3, THEN3) }
	ended == 3;
	/* What is there is found, and nothing else. */
	assert(there[0] == (up.value == NODE && cell[0].value == ENTRY));
	assert(there[1] == (up.value == NODE && cell[1].value == ENTRY));
	assert(spoilt || there[0] || there[1] || up.value == NONE)
}
