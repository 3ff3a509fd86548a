/*
 * Counts: roots, one shared cell, objects that come and go.
 *
 * Proves: whatever clients and recoverers do and wherever they die, in the end
 * every count equals the number of slots that point at the object, nothing
 * leaked, nothing was freed twice or changed after it was freed.
 *
 * Left out: what becomes of a DEAD block (reclaim.pml), whose page it lies in
 * (segment.pml): here giving it back is one step.
 */
#include "core.pml"
#ifndef OPS
#define OPS 2                   /* operations per client */
#endif
#ifndef OPS2
#define OPS2 OPS                /* of client 2 */
#endif
#ifndef O
#define O 2                     /* object o lies in a page of client OWNER(o) */
#endif
#ifndef LIVES
#define LIVES 0                 /* how often a slot given up is claimed again, in all */
#endif
#define OWNER(o) (o == 1 -> 1 : 2)
#define SIMPLE(o) (o == 1)       /* without reference fields */
#define R 2                     /* roots per client */

#define FREE 0
#define LIVE 1
#define DEAD 2

#define ATTACH 1
#define DETACH 2
#define SWAP 3
#define MOVE 4                  /* touches two private slots only: committed by its seal */

typedef Header { byte cid; byte era; byte cnt; byte st; bit exposed };
typedef Roots { byte t[R] };

Header H[O+1];
Word cell;
Roots root[N+1];
byte top[N+1];                  /* the dead list: here never longer than one */
bit lock[N+1], taken[N+1], helped;
byte lives = 0;
#ifdef WATCH_LIFE
byte nth[O+1];                 /* which of its lives an object is in: for the assertion only */
#endif

inline hload(OB) { d_step { hc = H[OB].cid; he = H[OB].era; hn = H[OB].cnt; hs = H[OB].st; hx = H[OB].exposed } }
inline hput(OB, CNT) { H[OB].cid = me; H[OB].era = ERA; H[OB].cnt = CNT }
#define HSAME(OB) (H[OB].cid == hc && H[OB].era == he && H[OB].cnt == hn && H[OB].st == hs && H[OB].exposed == hx)

/* rule 6: a plain store may replace the CAS only while no other client can reach the object */
#ifdef BUG_6_COUNT_ONE
#define PRIVATE(OB) (hn == 1)
#else
#define PRIVATE(OB) (!H[OB].exposed)
#endif

/* count up by CAS from the header in h*, new reference in root d; ok = done */
inline raise(OB, D) {
	atomic { CR; PUBLISH(hc, he); CR; seal(ATTACH, D, OB, 0) }
	atomic {
		CR; d_step { ok = HSAME(OB); if :: ok -> hput(OB, hn + 1) :: else fi }
		if :: ok -> CR; root[me].t[D] = OB; CR; bump() :: else fi
	}
}

/* one more reference to what root s holds */
inline attach(S, D) {
	ob = root[me].t[S];
	do
	:: hload(ob);
	   if
	   :: PRIVATE(ob) ->
	      atomic {
		CR; PUBLISH(hc, he); CR; seal(ATTACH, D, ob, 0); CR;
#ifdef BUG_6_STORE_TORN
		H[ob].cnt = hn + 1; CR;
#endif
		d_step { hput(ob, hn + 1) } CR; root[me].t[D] = ob; CR; bump()
	      }
	      break
	   :: else -> raise(ob, D); if :: ok -> break :: else fi
	   fi
	od
}

/* rule 5: cell, header, cell again */
inline acquire(D) {
	do
	:: load(cell);
	   if
	   :: wv == 0 ->
#ifndef BUG_3_NO_BUMP
	      if :: SEALED -> CR; bump() :: else fi;       /* an earlier round may have sealed: given up */
#endif
	      break
	   :: else ->
#ifdef WATCH_LIFE
	      CR; d_step { hc = H[wv].cid; he = H[wv].era; hn = H[wv].cnt; hs = H[wv].st; hx = H[wv].exposed; hl = nth[wv] } ob = wv;
#else
	      CR; hload(wv); ob = wv;
#endif
#ifdef BUG_5_NO_RECHECK
	      ok = 1;
#else
	      CR; d_step { ok = (cell.v == wv && cell.cid == wc && cell.era == we) }
#endif
	      if
	      :: ok ->
		 raise(ob, D);
		 if
		 :: ok ->
#ifdef WATCH_LIFE
		    assert(nth[ob] == hl);        /* the object that the cell held, not another one in its place */
#endif
		    break
		 :: else
		 fi
	      :: else
	      fi
	   fi
	od
}

/* object 1 by its number, holding nothing: only if it is LIVE and reachable by others (rule 7) */
inline by_number(D) {
	hload(1);
	if
#ifdef BUG_7_RAISE_ZERO
	:: H[1].exposed ->
#else
	:: H[1].exposed && hs == LIVE ->
#endif
	   raise(1, D);
	   if :: !ok -> CR; bump() :: else fi                  /* given up */
	:: else
	fi
}

inline move(S, D) {
#ifdef BUG_MOVE_UNSEALED
	atomic { CR; root[me].t[D] = root[me].t[S]; CR; root[me].t[S] = 0 }
#else
	atomic { CR; seal(MOVE, S, root[me].t[S], D); CR; root[me].t[D] = redo[me].o; CR; root[me].t[S] = 0; CR; bump() }
#endif
}

/* exchange a root with the cell: no count changes */
inline swap(D) {
	ob = root[me].t[D];
#ifndef BUG_6_NO_EXPOSE
	if
	:: ob != 0 && !H[ob].exposed ->
#ifdef BUG_6_EXPOSE_NO_STAMP
	   CR; H[ob].exposed = 1
#else
	   atomic { CR; d_step { H[ob].exposed = 1; H[ob].cid = me; H[ob].era = ERA } CR; bump() }
#endif
	:: else
	fi;
#endif
	do
	:: load(cell);
	   atomic { CR; PUBLISH(wc, we); CR; seal(SWAP, D, wv, 0) }
	   atomic {
		CR; cas(cell, root[me].t[D]);
		if :: ok -> CR; root[me].t[D] = wv; CR; bump() :: else fi
	   }
	   if :: ok -> break :: else fi
	od
}

/* take charge of an object whose count I brought to zero; may be repeated */
inline bury(OB, D) {
	if :: top[me] != OB -> CR; d_step { H[OB].cid = LINK; H[OB].era = top[me] } CR; top[me] = OB :: else fi;
	CR; root[me].t[D] = 0
}

inline undertake() {
	if
	:: top[me] != 0 -> CR; d_step { assert(H[top[me]].st == DEAD && H[top[me]].cnt == 0); H[top[me]].st = FREE; H[top[me]].cid = LINK; H[top[me]].era = 0; top[me] = 0 }
	:: else
	fi
}

inline detach(D) {
	ob = root[me].t[D];
	do
	:: hload(ob); assert(hs == LIVE && hn > 0);
	   if
	   :: PRIVATE(ob) && hn == 1 && OWNER(ob) == me && SIMPLE(ob) ->       /* private release: one header store, no log */
	      atomic {
		CR;
#ifdef BUG_RELEASE_ROOT_FIRST
		root[me].t[D] = 0; CR;
#endif
		d_step { H[ob].st = FREE; H[ob].cnt = 0; H[ob].cid = LINK; H[ob].era = 0 } CR; root[me].t[D] = 0
	      }
	      break
	   :: PRIVATE(ob) && hn > 1 ->
	      atomic {
		CR; PUBLISH(hc, he); CR; seal(DETACH, D, ob, 0); CR; d_step { hput(ob, hn - 1) } CR; root[me].t[D] = 0;
#ifndef BUG_1_NO_BUMP
		CR; bump()
#endif
	      }
	      break
	   :: else ->
	      atomic { CR; PUBLISH(hc, he); CR; seal(DETACH, D, ob, 0) }
	      atomic {
		CR; d_step { ok = HSAME(ob); if :: ok -> hput(ob, hn - 1); if :: hn == 1 -> H[ob].st = DEAD :: else fi :: else fi }
		if
		:: ok && hn > 1 -> CR; root[me].t[D] = 0; CR; bump()
		:: ok && hn == 1 ->
#ifdef BUG_7_CHARGE_LATE
		   CR; root[me].t[D] = 0; CR; bump(); CR; top[me] = ob
#else
		   CR; redo[me].phase = 1; bury(ob, D); CR; bump()
#endif
		:: else
		fi
	      }
	      if :: ok -> break :: else fi
	   fi
	od;
	undertake()
}

#define HELD(b) (root[me].t[0] == b || root[me].t[1] == b)
#ifdef BUG_ALLOC_LIVE_FIRST
#define ROOT_FIRST(D) skip
#define ROOT_LAST(D) CR; root[me].t[D] = ob
#else
#define ROOT_FIRST(D) root[me].t[D] = ob; CR
#define ROOT_LAST(D) skip
#endif
/* the root points at the block, then the header becomes LIVE; its stamp stays the free list's link until it is exposed */
inline alloc(D) {
	ob = 0;
	if :: H[me].st == FREE && OWNER(me) == me && me <= O && !HELD(me) -> ob = me :: else fi;
	if
	:: ob != 0 -> atomic {
		CR; ROOT_FIRST(D);
		d_step {
			H[ob].st = LIVE; H[ob].cnt = 1; H[ob].exposed = 0;
#ifdef WATCH_LIFE
			nth[ob]++
#endif
		}
		ROOT_LAST(D) }
	:: else
	fi
}

#ifdef WATCH_LIFE
#define LIFE_LOCAL ; byte hl
#else
#define LIFE_LOCAL
#endif
#define LOCALS WORD_LOCALS; byte hc, he, hn, hs, ob, n, d; bit hx LIFE_LOCAL
#define FORGET wv = 0; wc = 0; we = 0; ok = 0; hc = 0; he = 0; hn = 0; hs = 0; hx = 0; ob = 0; k = 0; d = 0

/*
 * One client: its life, its orderly end, and, if it dies, whoever then acts as
 * it.  All of them run the same inlines; a death in recovery starts it again.
 */
proctype Client(byte me; bit helper) {
	LOCALS;
	if :: helper -> goto recover :: else fi;
life:
	atomic { !lock[me] -> lock[me] = 1; n = 0 }
	do
	:: n < (me == 1 -> OPS : OPS2) ->
	   n++;
	   if :: d = 0 :: d = 1 fi;
	   if
	   :: root[me].t[d] == 0 -> acquire(d)
	   :: root[me].t[d] == 0 -> alloc(d)
#ifdef BY_NUMBER
	   :: root[me].t[d] == 0 -> by_number(d)
#endif
	   :: root[me].t[d] == 0 && root[me].t[1-d] != 0 -> attach(1-d, d)
	   :: root[me].t[d] == 0 && root[me].t[1-d] != 0 -> move(1-d, d)
	   :: root[me].t[d] != 0 -> detach(d)
	   :: swap(d)
	   fi;
	   atomic { FORGET }
	:: else -> break
	od;
	goto drop;

crash:	atomic {
		FORGET; n = 0;
		lock[me] = 0;                   /* the kernel lets go of a dead client's lock */
#ifdef TWO_RECOVERERS
		if :: !helped -> helped = 1; run Client(me, 1) :: else fi
#endif
	}
recover:
#ifndef BUG_8_NO_LOCK
	atomic { !lock[me] -> lock[me] = 1 }
#endif
	if :: !taken[me] -> goto unlock :: else fi;
	if
#ifdef BUG_4_NO_FINISH
	:: SEALED -> CR; bump()
#else
	:: SEALED ->
	   atomic { ob = redo[me].o; d = redo[me].slot; n = redo[me].next }
	   if
	   :: redo[me].op == SWAP -> landed(cell.cid, cell.era); if :: ok -> CR; root[me].t[d] = ob :: else fi
#ifndef BUG_MOVE_NOT_REPEATED
	   :: redo[me].op == MOVE -> CR; root[me].t[n] = ob; CR; root[me].t[d] = 0
#endif
	   :: redo[me].op == ATTACH -> landed(H[ob].cid, H[ob].era); if :: ok -> CR; root[me].t[d] = ob :: else fi
	   :: redo[me].op == DETACH ->
	      landed(H[ob].cid, H[ob].era);
	      if
	      :: redo[me].phase || (H[ob].cid == me && H[ob].era == redo[me].era && H[ob].cnt == 0) ->
		 CR; redo[me].phase = 1; bury(ob, d)
	      :: else -> if :: ok -> CR; root[me].t[d] = 0 :: else fi
	      fi
	   :: else                              /* not reached under rule 8 */
	   fi;
	   CR; bump()
#endif
	:: else ->
#ifndef BUG_4_NO_BUMP
	   CR; bump()           /* the dead client may have used its era in an unlogged stamp */
#endif
	fi;
drop:	undertake();
	n = 0;
	do
	:: n < R ->
	   ob = root[me].t[n];
	   if
	   :: ob == 0
#ifdef BUG_FREE_ROOT_COUNTS
	   :: ob != 0 -> detach(n)
#else
	   :: ob != 0 && H[ob].st == FREE && OWNER(ob) == me -> CR; root[me].t[n] = 0   /* an allocation that did not happen, or a release that did */
	   :: else -> detach(n)
#endif
	   fi;
	   n++
	:: else -> break
	od;
	/* the slot becomes free; its era and its row stay: its next life and the recovery of others need them */
	atomic {
#ifdef BUG_ROW_CLEARED
		k = 1; do :: k <= N -> if :: k != me -> E[me].seen[k] = 0 :: else fi; k++ :: else -> break od;
#endif
#ifdef BUG_ERA_RESTARTS
		ERA = 1;
#endif
		FORGET; n = 0; lock[me] = 0;
		if :: lives < LIVES -> lives++; goto life :: else -> taken[me] = 0; goto out fi
	}
unlock:	lock[me] = 0;
out:	skip
}

init {
	byte i, want;
	atomic {
		i = 1; do :: i <= N -> E[i].seen[i] = 1; taken[i] = 1; i++ :: else -> break od;
		H[1].st = LIVE; H[1].cnt = 1; H[1].exposed = 1; cell.v = 1;     /* object 1: held by the cell only */
#ifdef WATCH_LIFE
		H[1].cid = LINK;                                                /* as an object that was never counted up or down */
#endif
#ifdef START_HELD
		H[2].st = LIVE; H[2].cnt = 1; root[2].t[0] = 2;                 /* object 2: private to client 2 */
#endif
		i = 1; do :: i <= N -> run Client(i, 0); i++ :: else -> break od
	}
	(taken[1] == 0 && taken[2] == 0 && _nr_pr == 1);
	atomic {
		i = 1;
		do
		:: i <= O ->
		   want = (cell.v == i -> 1 : 0);
		   assert(H[i].cnt == want);
		   assert(H[i].st == (want -> LIVE : FREE));
		   i++
		:: else -> break
		od;
		assert(top[1] == 0 && top[2] == 0)
	}
}
