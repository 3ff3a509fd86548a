/*
 * Looks: no block is left on the remote list of a segment that nobody owns.
 *
 * Client 1 owns both segments and leaves, client 2 has dropped a block in either
 * and buries these.  OWNER2=2: each owns one and has dropped a block in the
 * other's.  ONE_SEGMENT: both blocks lie in the first one; with three clients
 * the second block is client 3's.  Who orphans a
 * segment looks at its remote list afterwards, who pushes onto one looks at the
 * owner afterwards: one of them sees the other and adopts.  Who died between its
 * step and its look did not look: the record names the segment, in a field that
 * no other operation's record touches, and recovery looks before all else.
 *
 * Proves: when everybody is done or recovered, every dropped block is FREE, freed
 * once, no remote list has one; a segment with something else in it is ORPHAN,
 * one without is given back; none hangs on a slot.
 *
 * Which order of the note matters: before the CAS that the look belongs to.  That
 * it is before the seal too costs nothing, and host mode writes it back with the
 * record: LOOK_AFTER_SEAL notes it between the two and holds.
 *
 * Adopting before one pushes is left to chance here: it is no rule of these, only
 * the shorter way.  Left out: allocation, claims of free segments, memory
 * (segment.pml, spans.pml), the pop's record (reclaim.pml), rebuilding of lists.
 */
#include "core.pml"
#ifndef OPS
#define OPS 1                   /* of each client: adopt any orphan, or collect */
#endif
#ifndef OWNER2
#define OWNER2 1
#endif
#define S 2
#define B 2                     /* blocks */
#ifdef ONE_SEGMENT
#define SEG(b) 1
#else
#define SEG(b) (b)
#endif
#ifndef KEEPS
#define KEEPS 1                 /* the segment with an object that lives on, or 0 */
#endif
#define KEPT(s) (s == KEEPS)

#define UNUSED 0                /* a segment word's value: UNUSED, its owner's cid, or ORPHAN */
#define ORPHAN 8

#define FREE 0
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
byte top[N+1], under[B+1];      /* dead list */
byte look[N+1];                 /* of the record */
bit done[N+1];

#define ALL_FREE(s) (!KEPT(s) && (SEG(1) != s || st[1] == FREE) && (SEG(2) != s || st[2] == FREE))

#if defined(BUG_LOOK_AFTER_CAS)
#define NOTE(s) skip
#define NOTE_SEALED(s) skip
#define NOTE_DONE(s) CR; look[me] = s
#elif defined(LOOK_AFTER_SEAL)
#define NOTE(s) skip
#define NOTE_SEALED(s) CR; look[me] = s
#define NOTE_DONE(s) skip
#else
#define NOTE(s) CR; look[me] = s
#define NOTE_SEALED(s) skip
#define NOTE_DONE(s) skip
#endif

inline link_segment() { if :: head[me] != s -> CR; next[s] = head[me]; CR; head[me] = s :: else fi }

inline adopt() {
	load(seg[s]);
	if
	:: wv == ORPHAN ->
	   atomic {
		CR; PUBLISH(wc, we);
#ifdef BUG_LOOK_CLEARED_BY_CLAIM
		CR; look[me] = 0;
#endif
		CR; seal(CLAIM, s, 0, 0)
	   }
	   atomic { CR; cas(seg[s], me); if :: ok -> link_segment() :: else fi; CR; bump() }
	:: else -> ok = 0
	fi
}

/* the owner's segment s, the first of its list, to others */
inline give_up() {
	wv = seg[s].v; wc = seg[s].cid; we = seg[s].era;
	assert(wv == me && head[me] == s);
	ob = (ALL_FREE(s) -> UNUSED : ORPHAN);
	atomic {
		CR; PUBLISH(wc, we);
#ifndef BUG_NOTE_ONLY_PUSH
		if :: ob == ORPHAN -> NOTE(s) :: else fi;
#endif
		CR; seal(GIVE_UP, s, 0, next[s]);
#ifndef BUG_NOTE_ONLY_PUSH
		if :: ob == ORPHAN -> NOTE_SEALED(s) :: else fi
#endif
	}
	atomic {
		CR; cas(seg[s], ob); assert(ok);
		if :: ob == ORPHAN -> NOTE_DONE(s) :: else fi;
		CR; head[me] = redo[me].next; CR; bump()
	}
}

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
		 atomic {
			do
			:: wv != 0 -> CR; d_step { assert(st[wv] == LIMBO); st[wv] = FREE; wv = nxt[wv] }
			:: else -> break
			od;
			CR; bump()
		 }
		 break
	      :: else
	      fi
	   fi
	od
}

inline push() {
	if :: st[ob] == DEAD -> CR; st[ob] = LIMBO :: else -> assert(st[ob] == LIMBO) fi;
	do
	:: load(remote[s]);
	   atomic {
		CR; nxt[ob] = wv; CR; PUBLISH(wc, we);
#ifndef BUG_NOTE_ONLY_ORPHAN
		NOTE(s);
#endif
		CR; seal(PUSH, s, ob, under[ob]);
#ifndef BUG_NOTE_ONLY_ORPHAN
		NOTE_SEALED(s)
#endif
	   }
	   atomic { CR; cas(remote[s], ob); if :: ok -> NOTE_DONE(s); CR; top[me] = under[ob]; CR; bump() :: else fi }
	   if :: ok -> break :: else fi
	od
}

#define FORGET wv = 0; wc = 0; we = 0; ok = 0; ob = 0; k = 0

proctype Client(byte me) {
	WORD_LOCALS; byte ob, s, n; bit acting, early;
	n = OPS;
	/* s: a segment to adopt if it is an orphan, or 0 */
again:
	if
	:: s != 0 -> adopt(); if :: ok && !acting -> goto tend :: else fi
	:: else
	fi;
	atomic { FORGET; s = 0; early = 0 }
	if
	:: top[me] != 0 ->
	   ob = top[me]; s = SEG(ob);
	   if
	   :: st[ob] == DEAD && seg[s].v == ORPHAN -> goto again
	   :: st[ob] == DEAD && seg[s].v == me ->
	      CR; d_step { st[ob] = FREE; top[me] = under[ob]; s = 0 }
	   :: st[ob] == LIMBO || seg[s].v != me ->
#ifdef BUG_LOOK_BEFORE_PUSH
	      early = (seg[s].v == ORPHAN);
	      push();
	      if :: early :: else -> s = 0 fi
#else
	      push();
	      CR;
#ifdef BUG_NO_LOOK_PUSH
	      s = 0
#else
	      if :: seg[s].v == ORPHAN :: seg[s].v != ORPHAN -> s = 0 fi
#endif
#endif
	   fi
	:: !acting && n > 0 && seg[1].v == ORPHAN -> n--; s = 1
	:: !acting && n > 0 && seg[2].v == ORPHAN -> n--; s = 2
	:: !acting && n > 0 && head[me] != 0 -> n--; s = head[me]; goto tend
	:: !acting && top[me] == 0 -> atomic { acting = 1; n = 0 }      /* it leaves */
	:: acting && top[me] == 0 && head[me] != 0 -> s = head[me]; goto tend
	:: acting && top[me] == 0 && head[me] == 0 -> goto out
	fi;
	goto again;

tend:	collect();
#ifdef BUG_LOOK_BEFORE_ORPHAN
	early = (remote[s].v != 0);
#endif
	if
	:: acting || ALL_FREE(s) && head[me] == s ->
	   give_up();
	   CR;
	   if
#if defined(BUG_NO_LOOK_ORPHAN)
	   :: true -> s = 0
#elif defined(BUG_LOOK_BEFORE_ORPHAN)
	   :: early
	   :: !early -> s = 0
#else
	   :: ob == ORPHAN && remote[s].v != 0
	   :: ob != ORPHAN || remote[s].v == 0 -> s = 0
#endif
	   fi
	:: !acting -> s = 0
	fi;
	goto again;

crash:	atomic { FORGET; n = 0; early = 0; acting = 1 }
	if
	:: SEALED ->
	   s = redo[me].slot; ob = redo[me].o;
	   if
	   :: redo[me].op == CLAIM -> landed(seg[s].cid, seg[s].era); if :: ok -> link_segment() :: else fi
	   :: redo[me].op == GIVE_UP -> landed(seg[s].cid, seg[s].era); if :: ok -> CR; head[me] = redo[me].next :: else fi
	   :: redo[me].op == PUSH -> landed(remote[s].cid, remote[s].era); if :: ok -> CR; top[me] = redo[me].next :: else fi
	   :: redo[me].op == COLLECT ->
	      landed(remote[s].cid, remote[s].era);
	      if
	      :: ok ->
		 do
		 :: ob != 0 -> CR; d_step { assert(st[ob] == LIMBO || st[ob] == FREE); st[ob] = FREE; ob = nxt[ob] }
		 :: else -> break
		 od
	      :: else
	      fi
	   fi
	:: else
	fi;
#ifndef BUG_LOOK_BEFORE_BUMP
	CR; bump();
#endif
	CR;
	atomic {
		FORGET;
#if defined(BUG_NO_LOOK_RECORD) || defined(BUG_LOOK_LATE)
		s = 0;
#else
		s = look[me];
		if :: s != 0 && remote[s].v == 0 -> s = 0 :: else fi
#endif
	}
	goto again;

out:
#ifdef BUG_LOOK_LATE
	if :: look[me] != 0 && remote[look[me]].v != 0 && seg[look[me]].v == ORPHAN -> s = look[me]; goto again :: else fi;
#endif
	atomic { FORGET; s = 0; done[me] = 1 }
}

init {
	byte i;
	atomic {
		i = 1; do :: i <= N -> E[i].seen[i] = 1; i++ :: else -> break od;
		seg[1].v = 1; head[1] = 1; st[1] = DEAD; top[2] = 1; st[2] = DEAD;
#if N == 3
		top[3] = 2;
#elif OWNER2 == 2
		top[1] = 2;
#else
		under[1] = 2;
#endif
#ifndef ONE_SEGMENT
		seg[2].v = OWNER2; if :: OWNER2 == 1 -> next[1] = 2 :: else -> head[2] = 2 fi;
#endif
		i = 1; do :: i <= N -> run Client(i); i++ :: else -> break od
	}
	(done[1] && done[2] && (N == 2 || done[N]));
	atomic {
		i = 1; do :: i <= B -> assert(st[i] == FREE); i++ :: else -> break od;
		i = 1;
		do
		:: i <= S -> assert(remote[i].v == 0 && seg[i].v == (KEPT(i) && SEG(i) == i -> ORPHAN : UNUSED)); i++
		:: else -> break
		od;
		i = 1; do :: i <= N -> assert(head[i] == 0 && top[i] == 0); i++ :: else -> break od
	}
}
