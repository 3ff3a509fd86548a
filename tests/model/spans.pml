/*
 * Spans of segments: bodies join and leave a head that is CHANGING, memory is
 * reserved and given back, and nobody ever reads a hole (of a full tmpfs, SIGBUS).
 *
 * Two clients claim segments and spans, show an object in them, take it out, give
 * the segments back or leave them as orphans, adopt, and trim; they may die
 * anywhere and are recovered.  The reader is who recovers somebody else, and reads
 * a word that may be anywhere (segment_readable()); or who follows what it loaded
 * from a cell before the object went (rule 5).
 *
 * Proves: what is readable has memory, and what was come upon keeps it, until the
 * reader is done; so FREE memory is never looked at, FREE_DIRTY memory may be.
 * Owned segments have memory.  In the end every segment is free, or an orphan or
 * its body, which then holds the object; none hangs on a slot.
 *
 * Left out: blocks, remote lists, a client with several spans (segment.pml), who
 * uses what was freed (scrubbing), searching by hints.  A reader that dies is one
 * that stays long.
 */
#include "core.pml"
#ifndef OPS
#define OPS 2                   /* of client 1 */
#endif
#ifndef OPS2
#define OPS2 1
#endif
#ifndef READS
#define READS 1
#endif
#ifndef S
#define S 2                     /* segments; client 1 claims spans of as many */
#endif

/* a segment word's value; with the owner's cid, or the head of a body, added */
#define FREE 0
#define DIRTY 1                 /* FREE_DIRTY: a reader may still look */
#define ORPHAN 2
#define OWNED 10
#define CHANGING 20
#define BODY 30
#define WANTED(v) (v == FREE || v == DIRTY)
#define IS_BODY(v) (v > BODY)
#define READABLE(v) (v == ORPHAN || v > OWNED && v < CHANGING)

#define CLAIM 1
#define LET_GO 2
#define GROW 3
#define SHRINK 4

Word seg[S+1];
byte span[S+1];                 /* segments of the span that this one heads */
byte head[N+1];                 /* on the slot: the segment that it owns */
bit backed[S+1];                /* has memory */
byte cell;                      /* segment in which the object lies that others can come upon, or 0 */
bit reading;
byte done = 0;

/* a body joins before it is counted and leaves after */
#define SPAN(h) (span[h] > 1 && h < S && seg[h+1].v == BODY + h -> span[h] : 1)
#define WITHIN(s, h) (s >= h && s < h + SPAN(h))

inline set_state(V) {
	atomic { wc = seg[s].cid; we = seg[s].era; CR; PUBLISH(wc, we) }
	atomic { CR; d_step { seg[s].v = V + me; seg[s].cid = me; seg[s].era = ERA } CR; bump() }
}

/* from the word just loaded to V: s is mine if ok */
inline claim(V) {
	atomic { CR; PUBLISH(wc, we); CR; seal(CLAIM, s, 0, 0) }
	atomic { CR; cas(seg[s], V + me); if :: ok -> CR; head[me] = s :: else fi; CR; bump() }
}

/* fails in a full file system; what has memory keeps it */
inline reserve(X) { if :: backed[X] -> ok = 1 :: !backed[X] -> CR; backed[X] = 1; ok = 1 :: !backed[X] -> ok = 0 fi }

/* does nobody read?  else what is given back keeps its memory */
#ifdef BUG_PUNCH_WHILE_READ
#define QUIET quiet = 1
#else
#define QUIET quiet = !reading
#endif

inline leave_span(NX) {
	d_step { wc = seg[s+NX].cid; we = seg[s+NX].era }
	CR; span[s] = NX; CR; PUBLISH(wc, we)
}

/* the body behind the NX segments that stay; may be repeated, and is another's then if it has left */
inline leave_word(NX, V) {
	CR;
	d_step {
#ifndef BUG_SHRINK_BLIND
		if
		:: seg[s+NX].v == BODY + s ->
#endif
		   seg[s+NX].v = V; seg[s+NX].cid = me; seg[s+NX].era = ERA
#ifndef BUG_SHRINK_BLIND
		:: else
		fi
#endif
	}
}

inline shrink() {
	do
	:: SPAN(s) > 1 ->
	   x = span[s] - 1;
#ifdef BUG_FREE_BEFORE_PUNCH
	   atomic { CR; seal(SHRINK, s, (quiet -> FREE : DIRTY), x); leave_span(x) }
	   atomic { leave_word(x, redo[me].o); CR; bump() }
	   if :: quiet -> CR; backed[s+x] = 0 :: else fi
#else
	   if :: quiet -> CR; backed[s+x] = 0 :: else fi;
#ifdef BUG_SHRINK_UNLOGGED
	   atomic { leave_span(x) }
	   atomic { leave_word(x, (quiet -> FREE : DIRTY)); CR; bump() }
#else
	   atomic { CR; seal(SHRINK, s, (quiet -> FREE : DIRTY), x); leave_span(x) }
	   atomic { leave_word(x, redo[me].o); CR; bump() }
#endif
#endif
	:: else -> break
	od;
	x = 0
}

/* the segment behind the span's COUNT into it: ok 0 if that is no free one, or has no memory and gets none */
inline grow() {
	load(seg[s+x]);
	if
	:: WANTED(wv) ->
#ifdef BUG_GROW_UNLOGGED
	   atomic { CR; PUBLISH(wc, we) }
#else
	   atomic { CR; PUBLISH(wc, we); CR; seal(GROW, s, 0, x + 1) }
#endif
	   atomic { CR; cas(seg[s+x], BODY + s); if :: ok -> CR; span[s] = x + 1 :: else fi; CR; bump() }
	   if :: ok -> reserve(s+x) :: else fi
	:: else -> ok = 0
	fi
}

#define FORGET wv = 0; wc = 0; we = 0; ok = 0; k = 0; s = 0; x = 0; w = 0; quiet = 0
#define USED (cell != 0 && WITHIN(cell, head[me]))

proctype Client(byte me) {
	WORD_LOCALS; byte n, s, x, w; bit quiet;
	n = (me == 1 -> OPS : OPS2);
again:
	atomic {
		FORGET;
		if
		:: n > 0 -> n--
		:: n == 0 && head[me] == 0 -> done++; goto out
		:: n == 0 && head[me] != 0 -> s = head[me]; if :: USED -> goto leave :: else -> goto close fi
		fi
	}
	if
	:: atomic { head[me] == 0 && WANTED(seg[1].v) -> s = 1; load(seg[1]); if :: w = 1 :: me == 1 -> w = S fi; goto open }
	:: atomic { head[me] == 0 && WANTED(seg[2].v) -> s = 2; load(seg[2]); if :: w = 1 :: me == 1 && S > 2 -> w = 2 fi; goto open }
	:: atomic { head[me] == 0 && seg[1].v == DIRTY -> s = 1; load(seg[1]); goto trim }
	:: atomic { head[me] == 0 && seg[2].v == DIRTY -> s = 2; load(seg[2]); goto trim }
	:: head[me] == 0 && (seg[1].v == ORPHAN || seg[2].v == ORPHAN) ->
	   s = (seg[1].v == ORPHAN -> 1 : 2);
	   load(seg[s]);
	   if :: wv == ORPHAN -> claim(OWNED) :: else fi
	:: atomic { head[me] != 0 && cell == 0 -> if :: cell = head[me] :: SPAN(head[me]) > 1 -> cell = head[me] + SPAN(head[me]) - 1 fi }
	:: cell != 0 -> cell = 0
	:: head[me] != 0 && !USED -> s = head[me]; goto close
	:: true -> n = 0
	fi;
	goto again;

open:	/* a span of w */
	if
	:: WANTED(wv) ->
	   quiet = (w == 1 && wv == FREE);      /* then nobody can have come upon it since */
	   claim(CHANGING);
	   if :: ok -> CR; span[s] = 0 :: else -> goto again fi
	:: else -> goto again
	fi;
	reserve(s);
#ifdef BUG_GROW_WHILE_OWNED
	if :: ok -> set_state(OWNED) :: else fi;
#endif
	x = 1;
	do
	:: ok && x < w -> grow(); x++
	:: else -> break
	od;
	if
	:: ok -> set_state(OWNED); assert(backed[s]); goto again
	:: else
	fi;
#ifdef BUG_DIRTY_UNASKED
	quiet = 1;
#else
	if :: quiet :: !quiet -> QUIET fi;
#endif
	goto give_back;

trim:	if
	:: wv == DIRTY -> claim(CHANGING); if :: ok :: else -> goto again fi
	:: else -> goto again
	fi;
#ifdef BUG_DIRTY_UNASKED
	quiet = 1;
	goto give_back;
#endif
close:
#if defined(BUG_SHRINK_WHILE_OWNED)
	QUIET; shrink(); set_state(CHANGING); QUIET;
#elif defined(BUG_QUIET_FIRST)
	QUIET; set_state(CHANGING);
#else
	set_state(CHANGING); QUIET;
#endif
give_back:
#ifndef BUG_HEAD_FIRST
	shrink();
#endif
	if :: quiet -> CR; backed[s] = 0 :: else fi;
	w = (quiet -> FREE : DIRTY);
	goto let_go;
leave:	w = ORPHAN;
let_go:	/* the record knows what recovery needs: the word may be another's from the CAS on */
	atomic { wv = seg[s].v; wc = seg[s].cid; we = seg[s].era; CR; PUBLISH(wc, we); CR; seal(LET_GO, s, 0, 0) }
	atomic { CR; cas(seg[s], w); assert(ok); CR; head[me] = 0; CR; bump() }
#ifdef BUG_HEAD_FIRST
	if :: w != ORPHAN -> shrink() :: else fi;
#endif
	goto again;

crash:	atomic { FORGET; n = 0 }
	if
	:: SEALED ->
	   s = redo[me].slot; x = redo[me].next;
	   if
	   :: redo[me].op == CLAIM -> landed(seg[s].cid, seg[s].era); if :: ok -> CR; head[me] = s :: else fi
	   :: redo[me].op == LET_GO -> landed(seg[s].cid, seg[s].era); if :: ok -> CR; head[me] = 0 :: else fi
	   :: redo[me].op == GROW -> landed(seg[s+x-1].cid, seg[s+x-1].era); if :: ok -> CR; span[s] = x :: else fi
	   :: redo[me].op == SHRINK -> atomic { leave_span(x) } leave_word(x, redo[me].o)
	   fi
	:: else
	fi;
	CR; bump();
	goto again;
out:
}

proctype Reader() {
	byte n, x, v, c, e;
	do
	:: n < READS ->
	   n++;
#ifndef BUG_READ_UNANNOUNCED
	   reading = 1;
#endif
	   if
	   :: atomic { if :: x = 1 :: x = 2 :: S > 2 -> x = S fi }
	      d_step { v = seg[x].v; c = seg[x].cid; e = seg[x].era }
#ifdef BUG_BODY_BY_OWN_WORD
	      if :: IS_BODY(v) -> v = ORPHAN :: else fi;
#else
	      if
	      :: IS_BODY(v) ->
		 v = seg[v - BODY].v;
#ifndef BUG_NO_STAMP_RECHECK
		 if :: seg[x].cid == c && seg[x].era == e :: seg[x].cid != c || seg[x].era != e -> v = FREE fi
#endif
	      :: else
	      fi;
#endif
#ifdef BUG_READ_UNANNOUNCED
	      reading = 1;
#endif
	      if :: READABLE(v) -> assert(backed[x]) :: else fi
	   :: x = cell;
#ifdef BUG_READ_UNANNOUNCED
	      reading = 1;
#endif
	      if :: x != 0 -> assert(backed[x]) :: else fi
	   fi;
	   atomic { reading = 0; x = 0; v = 0; c = 0; e = 0 }
	:: else -> break
	od;
	done++
}

init {
	byte i;
	atomic {
		i = 1; do :: i <= N -> E[i].seen[i] = 1; i++ :: else -> break od;
#ifdef START_SPAN               /* client 1 owns one span of all, the object lies in its last body */
		cell = S;
		head[1] = 1; span[1] = S; seg[1].v = OWNED + 1; backed[1] = 1;
		i = 2; do :: i <= S -> seg[i].v = BODY + 1; backed[i] = 1; i++ :: else -> break od;
#endif
		i = 1; do :: i <= N -> run Client(i); i++ :: else -> break od;
		run Reader()
	}
	(done == N + 1);
	atomic {
		assert(cell == 0 || backed[cell]);
		i = 1; do :: i <= N -> assert(head[i] == 0); i++ :: else -> break od;
		i = 1;
		do
		:: i <= S ->
		   assert(WANTED(seg[i].v) || seg[i].v == ORPHAN || IS_BODY(seg[i].v));
		   assert(!IS_BODY(seg[i].v) || seg[seg[i].v - BODY].v == ORPHAN && i < seg[i].v - BODY + span[seg[i].v - BODY]);
		   assert(cell != i || seg[i].v == ORPHAN || IS_BODY(seg[i].v));
		   i++
		:: else -> break
		od
	}
}
