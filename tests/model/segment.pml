/*
 * Segments: claim, remote free, death of the owner, orphans and adoption.
 *
 * Blocks are allocated from a client's own segments, given to another client
 * through a box, and dropped there: pushed on the segment's remote list, while
 * the segment's owner may die, its recovery orphan or free the segment, and
 * somebody else adopt or claim it.
 *
 * Proves: a block is never handed out twice nor freed while held; every block
 * ends held, FREE, or on its segment's remote list; every segment ends FREE
 * (then all its blocks are FREE and its remote list is empty) or ORPHAN, and
 * hangs on no slot.
 *
 * Two facts it rests on: only a segment's owner makes its blocks leave FREE, so
 * "all FREE", once seen by the owner, stays; and a block that is on a remote
 * list, or on its way there, is LIMBO, so "all FREE" implies an empty list.
 *
 * HOLE_PUNCH_ALL is DESIGN.md as first written and breaks: a reader that has
 * loaded a cell may load the header of an object that is gone by then (rule 5
 * allows that), and if its segment was punched meanwhile and the tmpfs is full,
 * that load is SIGBUS.
 *
 * Left out: counts (era.pml; here one reference a block), the dead list beyond
 * one entry (reclaim.pml), pages inside a segment.
 */
#include "core.pml"
#ifndef OPS1
#define OPS1 3
#endif
#ifndef OPS2
#define OPS2 2
#endif
#ifndef OPS3
#define OPS3 0
#endif
#ifndef LIVES
#define LIVES 0                 /* how often a slot given up is claimed again, in all */
#endif
#define S 2                     /* segments */
#define B 2                     /* blocks */
#ifdef ONE_SEGMENT
#define SEG(b) 1
#else
#define SEG(b) (b)
#endif

#define UNUSED 0                /* a segment word's value: UNUSED, its owner's cid, or ORPHAN */
#define ORPHAN 8

/* memory given back to the kernel before the segment becomes UNUSED */
#ifdef HOLE_PUNCH_ALL           /* DESIGN.md as written: every fully free segment */
#define PUNCHED(s) 1
#else                           /* never one that any other client ever saw an object in */
#define PUNCHED(s) (!shown[s])
#endif

#define FREE 0
#define LIVE 1
#define DEAD 2
#define LIMBO 3

#define CLAIM 1
#define GIVE_UP 2
#define PUSH 3
#define COLLECT 4

Word seg[S+1], remote[S+1];
byte next[S+1];                 /* the owner's list of its segments ... */
byte head[N+1];                 /* ... hangs on its slot */
byte st[B+1], nxt[B+1];         /* header; remote list link in the payload */
bit exposed[B+1];
bit listed[B+1];                /* on the owner's free list (volatile: an adopter rebuilds it) */
byte root[N+1], top[N+1], box;
bit backed[S+1];                /* has memory behind it: touching it otherwise may be SIGBUS */
bit shown[S+1];                 /* has held an exposed object, ever */
bit done[N+1];
byte lives = 0;

#define EVERY(X) ((SEG(1) != s || X(1)) && (SEG(2) != s || X(2)))
#define IS_FREE(b) (st[b] == FREE)
#define NOT_IN_USE(b) (st[b] == FREE || st[b] == LIMBO)
#ifdef BUG_FREE_DESPITE_LIMBO
#define ALL_FREE(s) (EVERY(NOT_IN_USE) && remote[s].v == 0)
#else
#define ALL_FREE(s) EVERY(IS_FREE)
#endif
#ifdef BUG_ADOPT_TAKES_LIMBO
#define USABLE(b) NOT_IN_USE(b)
#else
#define USABLE(b) IS_FREE(b)
#endif

/* the claim's effects beyond its CAS; may be repeated */
inline link_segment(SG, FRESH) {
	if
	:: FRESH -> CR; d_step { backed[SG] = 1; k = 1; do :: k <= B -> if :: SEG(k) == SG -> st[k] = FREE; listed[k] = 1 :: else fi; k++ :: else -> break od; k = 0 }
	:: else -> d_step { k = 1; do :: k <= B -> if :: SEG(k) == SG -> listed[k] = USABLE(k) :: else fi; k++ :: else -> break od; k = 0 }
	fi;
	if :: head[me] != SG -> CR; next[SG] = head[me]; CR; head[me] = SG :: else fi
}

/* one try at segment s */
inline claim() {
	load(seg[s]);
	if
	:: wv == UNUSED || wv == ORPHAN ->
	   atomic {
		CR; PUBLISH(wc, we);
#ifndef BUG_CLAIM_UNLOGGED
		CR; seal(CLAIM, s, 0, wv)
#endif
	   }
	   atomic {
		CR; cas(seg[s], me);
		if :: ok -> link_segment(s, wv == UNUSED) :: else fi;
		CR; bump()                      /* taken, or given up */
	   }
	:: else
	fi
}

/*
 * Unlink the first segment of my list and leave it to others.  The record names
 * the rest of the list: an adopter overwrites next[] right after the CAS.
 */
inline give_up() {
	s = head[me];
	wv = seg[s].v; wc = seg[s].cid; we = seg[s].era;
	ob = (ALL_FREE(s) -> UNUSED : ORPHAN);
#ifdef BUG_GIVE_UP_UNLOGGED
	if :: wv == me -> CR; cas(seg[s], ob) :: else fi;
	CR; head[me] = next[s]; CR; bump()
#else
	assert(wv == me);
	atomic { CR; PUBLISH(wc, we); CR; seal(GIVE_UP, s, 0, next[s]) }
	if :: ob == UNUSED && PUNCHED(s) -> CR; backed[s] = 0 :: else fi;
	atomic { CR; cas(seg[s], ob); assert(ok) }
	atomic { CR; head[me] = redo[me].next; CR; bump() }
#endif
}

/* owner takes the whole remote list of s; each block becomes FREE */
inline collect() {
	do
	:: load(remote[s]);
	   if
	   :: wv == 0 -> if :: SEALED -> CR; bump() :: else fi; break
	   :: else ->
	      atomic { CR; PUBLISH(wc, we); CR; seal(COLLECT, s, wv, 0) }
	      CR; cas(remote[s], 0);
	      if
	      :: ok ->
		 do
		 :: wv != 0 ->
		    CR; d_step {
			assert(st[wv] == LIMBO); st[wv] = FREE; listed[wv] = 1; wc = wv; wv = nxt[wc];
#ifdef BUG_COLLECT_ZEROES
			nxt[wc] = 0             /* the payload, before the record is done with */
#endif
		    }
		 :: else -> break
		 od;
		 CR; bump(); break
	      :: else
	      fi
	   fi
	od
}

inline alloc() {
	if
	:: listed[1] && seg[SEG(1)].v == me -> ob = 1
	:: listed[2] && seg[SEG(2)].v == me -> ob = 2
	:: else -> ob = 0
	fi;
	if
	:: ob != 0 ->
	   listed[ob] = 0;
	   CR; root[me] = ob;
	   atomic { CR; assert(box != ob && (root[1] == ob) + (root[2] == ob) + (root[N] == ob && N > 2) == 1);
		d_step { st[ob] = LIVE; exposed[ob] = 0 } CR; bump() }
	:: else
	fi
}

/* a reference through the shared box: era.pml and reclaim.pml show the CAS behind each of these steps */
inline give() { atomic { CR; if :: box == 0 -> exposed[root[me]] = 1; shown[SEG(root[me])] = 1; box = root[me]; root[me] = 0 :: else fi } }
inline take() {
	ob = box;
	if
	:: ob != 0 ->
	   CR; assert(backed[SEG(ob)]);         /* rule 5 reads the header before it knows that the object still lives */
	   atomic { CR; if :: box == ob -> root[me] = ob; box = 0 :: else fi }
	:: else
	fi
}

inline undertake() {
	ob = top[me];
	if
	:: ob != 0 ->
	   s = SEG(ob);
	   if
	   :: seg[s].v == me -> CR; d_step { assert(st[ob] == DEAD || st[ob] == LIMBO); st[ob] = FREE; listed[ob] = 1; top[me] = 0 }
	   :: else ->
	      if :: st[ob] == DEAD -> CR; st[ob] = LIMBO :: else -> assert(st[ob] == LIMBO) fi;
	      do
	      :: load(remote[s]);
		 atomic { CR; nxt[ob] = wv; CR; PUBLISH(wc, we); CR; seal(PUSH, s, ob, 0) }
		 atomic { CR; cas(remote[s], ob); if :: ok -> CR; top[me] = 0; CR; bump() :: else fi }
		 if :: ok -> break :: else fi
	      od
	   fi
	:: else
	fi
}

inline drop_root() {
	ob = root[me];
	if
	:: ob == 0
	:: ob != 0 && st[ob] == FREE && seg[SEG(ob)].v == me -> CR; root[me] = 0; listed[ob] = 1
	:: ob != 0 && st[ob] != FREE && !exposed[ob] ->         /* private release: no log */
	   assert(st[ob] == LIVE && seg[SEG(ob)].v == me);
	   CR; st[ob] = FREE; CR; root[me] = 0; listed[ob] = 1
	:: else ->
	   CR; d_step { assert(st[ob] == LIVE); st[ob] = DEAD; top[me] = ob; root[me] = 0 }
	fi;
	undertake()
}

inline drop_segments() {
	do
	:: head[me] != 0 -> s = head[me]; collect(); give_up()
	:: else -> break
	od
}

#define FORGET wv = 0; wc = 0; we = 0; ok = 0; ob = 0; s = 0; k = 0

proctype Client(byte me) {
	WORD_LOCALS; byte ob, s, n;
life:
	n = (me == 1 -> OPS1 : (me == 2 -> OPS2 : OPS3));
	do
	:: n > 0 ->
	   n--;
	   if
	   :: head[me] == 0 && !(seg[1].v == ORPHAN) && !(seg[2].v == ORPHAN) -> if :: s = 1 :: s = 2 fi; claim()
	   :: head[me] == 0 && seg[1].v == ORPHAN -> s = 1; claim()
	   :: head[me] == 0 && seg[2].v == ORPHAN -> s = 2; claim()
	   :: head[me] != 0 && next[head[me]] == 0 -> if :: s = 1 :: s = 2 fi; claim()
	   :: head[me] != 0 && root[me] == 0 -> alloc()
	   :: head[me] != 0 -> s = head[me]; collect()
	   :: head[me] != 0 -> s = head[me]; if :: ALL_FREE(s) && root[me] == 0 -> give_up() :: else fi
	   :: root[me] != 0 && box == 0 -> give()
	   :: root[me] == 0 -> take()
	   :: root[me] != 0 -> drop_root()
	   fi;
	   atomic { FORGET }
	:: else -> break
	od;
	goto drop;

crash:	atomic { FORGET; n = 0 }
	if
	:: SEALED ->
	   s = redo[me].slot; ob = redo[me].o;
	   if
	   :: redo[me].op == CLAIM -> landed(seg[s].cid, seg[s].era); if :: ok -> link_segment(s, redo[me].next == UNUSED) :: else fi
	   :: redo[me].op == GIVE_UP -> landed(seg[s].cid, seg[s].era); if :: ok -> CR; head[me] = redo[me].next :: else -> backed[s] = 1 fi
	   :: redo[me].op == PUSH -> landed(remote[s].cid, remote[s].era); if :: ok -> CR; top[me] = 0 :: else fi
	   :: redo[me].op == COLLECT ->
	      landed(remote[s].cid, remote[s].era);
	      if
	      :: ok ->
#ifndef BUG_COLLECT_FORGETS
		 do
		 :: ob != 0 -> CR; d_step { assert(st[ob] == LIMBO || st[ob] == FREE); st[ob] = FREE; listed[ob] = 1; ob = nxt[ob] }
		 :: else -> break
		 od
#endif
	      :: else
	      fi
	   fi
	:: else
	fi;
	CR; bump();
drop:
#ifdef BUG_SEGMENTS_FIRST
	drop_segments();
#endif
	undertake();
	drop_root();
#ifndef BUG_SEGMENTS_FIRST
	drop_segments();
#endif
	atomic { FORGET; if :: lives < LIVES -> lives++; goto life :: else -> done[me] = 1 fi }
}

init {
	byte i;
	atomic {
		i = 1; do :: i <= N -> E[i].seen[i] = 1; i++ :: else -> break od;
		/* client 1 owns segment 1, its block 1 is in the box */
		seg[1].v = 1; head[1] = 1; st[1] = LIVE; exposed[1] = 1; shown[1] = 1; box = 1; backed[1] = 1;
#ifdef START_HELD               /* client 2 holds block 2: two can meet on the remote list */
		st[2] = LIVE; exposed[2] = 1; root[2] = 2;
#else
		if :: SEG(2) == 1 -> listed[2] = 1 :: else fi;
#endif
		i = 1; do :: i <= N -> run Client(i); i++ :: else -> break od
	}
	(done[1] && done[2] && (N == 2 || done[N]));
	atomic {
		i = 1;
		do
		:: i <= B ->
		   assert(box == i || st[i] == FREE || st[i] == LIMBO);
		   assert(box != i || st[i] == LIVE);
		   /* LIMBO: on its list, and nothing else is on a list */
		   assert((st[i] == LIMBO) == (remote[SEG(i)].v == i || (remote[SEG(i)].v != 0 && nxt[remote[SEG(i)].v] == i)));
		   i++
		:: else -> break
		od;
		i = 1;
		do
		:: i <= S ->
		   assert(seg[i].v == UNUSED || seg[i].v == ORPHAN);
		   assert(seg[i].v != UNUSED || remote[i].v == 0);
		   assert(seg[i].v != UNUSED || ((SEG(1) != i || st[1] == FREE) && (SEG(2) != i || st[2] == FREE)));
		   i++
		:: else -> break
		od;
		i = 1; do :: i <= N -> assert(head[i] == 0 && root[i] == 0 && top[i] == 0); i++ :: else -> break od
	}
}
