/*
 * Reclaiming what a dropped object referred to: the dead list.
 *
 * Object 1 (parent) has one reference field, which holds object 2 (child); the
 * child is also in a shared cell.  Client 1 drops the parent while client 2
 * takes, drops and swaps the child.
 *
 * Proves: the parent's block is given back exactly once and takes its field's
 * reference with it; the child's exactly once, and only if its last reference
 * went; no list link in a header is ever taken for a stamp.
 *
 * A DEAD header's stamp holds the dead list's link, so the stamp is no evidence
 * any more: the detach record notes "reached zero" (phase) before the link is
 * written.
 *
 * Left out: collecting what was pushed (segment.pml), private objects (era.pml).
 */
#include "core.pml"
#ifndef OPS
#define OPS 2                   /* operations of client 2; client 1 only drops the parent */
#endif
#ifndef PARENT_IN
#define PARENT_IN 1             /* whose page the block lies in */
#endif
#ifndef CHILD_IN
#define CHILD_IN 2
#endif
#define OWNER(o) (o == 1 -> PARENT_IN : CHILD_IN)

#define FREE 0
#define LIVE 1
#define DEAD 2
#define LIMBO 3

#define ATTACH 1
#define DETACH 2
#define SWAP 3
#define PUSH 4
#define POP 5                   /* frees the top of the dead list: committed by its seal */

#define ROOT 0                  /* where a reference sits */
#define FIELD 1

typedef Header { byte cid; byte era; byte cnt; byte st };
Header H[3];
Word cell;
Word remote[N+1];               /* remote list of each client's page */
byte field;                     /* the parent's reference field */
byte root[N+1], top[N+1];
byte freed[3];                  /* how often a block was given back */
bit done[N+1];

inline hload(OB) { d_step { hc = H[OB].cid; he = H[OB].era; hn = H[OB].cnt; hs = H[OB].st } }
inline hcas(OB, CNT) {
	d_step {
		ok = (H[OB].cid == hc && H[OB].era == he && H[OB].cnt == hn && H[OB].st == hs);
		if :: ok -> H[OB].cid = me; H[OB].era = ERA; H[OB].cnt = CNT; if :: CNT == 0 -> H[OB].st = DEAD :: else fi :: else fi
	}
}
inline clear_slot(SL) { if :: SL == ROOT -> root[me] = 0 :: else -> field = 0 fi }

/* a zero-count object onto my dead list; may be repeated */
inline bury(OB, SL) {
#ifdef BUG_LINKED_TWICE
	CR; d_step { H[OB].cid = LINK; H[OB].era = top[me] } CR; top[me] = OB;
#else
	if :: top[me] != OB -> CR; d_step { H[OB].cid = LINK; H[OB].era = top[me] } CR; top[me] = OB :: else fi;
#endif
	CR; clear_slot(SL)
}

inline detach(SL) {
	if :: SL == ROOT -> ob = root[me] :: else -> ob = field fi;
	do
	:: hload(ob); assert(hs == LIVE && hn > 0);
	   atomic { CR; PUBLISH(hc, he); CR; seal(DETACH, SL, ob, 0) }
	   atomic {
		CR; hcas(ob, hn - 1);
		if
		:: ok && hn > 1 -> CR; clear_slot(SL); CR; bump()
		:: ok && hn == 1 ->
#ifndef BUG_NO_PHASE
		   CR; redo[me].phase = 1;
#endif
		   bury(ob, SL); CR; bump()
		:: else
		fi
	   }
	   if :: ok -> break :: else fi
	od
}

/* work the dead list off; stops at nothing, recurses into nothing */
inline undertake() {
	do
	:: top[me] == 0 -> break
#ifndef BUG_POP_WITH_FIELDS
	:: top[me] == 1 && field != 0 -> detach(FIELD)
#endif
	:: else ->
	   ob = top[me]; assert(H[ob].st != FREE);
	   if
	   :: OWNER(ob) == me ->
	      atomic {
#ifndef BUG_POP_UNLOGGED
		CR; seal(POP, 0, ob, H[ob].era);
#endif
		wv = H[ob].era;
		CR; d_step { freed[ob]++; H[ob].st = FREE; H[ob].cid = LINK; H[ob].era = 0 }
		CR; top[me] = wv; CR; bump()
	      }
	   :: else ->
	      if :: H[ob].st == DEAD -> CR; H[ob].st = LIMBO :: else -> assert(H[ob].st == LIMBO) fi;
	      do
	      :: load(remote[OWNER(ob)]);
#ifdef BUG_PUSH_UNLOGGED
		 atomic { CR; PUBLISH(wc, we); redo[me].next = H[ob].era }
#else
		 atomic { CR; PUBLISH(wc, we); CR; seal(PUSH, 0, ob, H[ob].era) }
#endif
		 atomic {
			CR; cas(remote[OWNER(ob)], ob);
			if :: ok -> freed[ob]++; CR; top[me] = redo[me].next; CR; bump() :: else fi
		 }
		 if :: ok -> break :: else fi
	      od
	   fi
	od
}

inline acquire() {
	do
	:: load(cell);
	   if
	   :: wv == 0 -> if :: SEALED -> CR; bump() :: else fi; break
	   :: else ->
	      CR; hload(wv); ob = wv;
	      CR; d_step { ok = (cell.v == wv && cell.cid == wc && cell.era == we) }
	      if
	      :: ok ->
		 assert(hc != LINK && hs == LIVE && hn > 0);
		 atomic { CR; PUBLISH(hc, he); CR; seal(ATTACH, ROOT, ob, 0) }
		 atomic { CR; hcas(ob, hn + 1); if :: ok -> CR; root[me] = ob; CR; bump() :: else fi }
		 if :: ok -> break :: else fi
	      :: else
	      fi
	   fi
	od
}

inline swap() {
	do
	:: load(cell);
	   atomic { CR; PUBLISH(wc, we); CR; seal(SWAP, ROOT, wv, 0) }
	   atomic { CR; cas(cell, root[me]); if :: ok -> CR; root[me] = wv; CR; bump() :: else fi }
	   if :: ok -> break :: else fi
	od
}

#define FORGET wv = 0; wc = 0; we = 0; ok = 0; hc = 0; he = 0; hn = 0; hs = 0; ob = 0; k = 0

proctype Client(byte me) {
	WORD_LOCALS; byte hc, he, hn, hs, ob, n;
	n = (me == 1 -> 0 : OPS);
	do
	:: n > 0 ->
	   n--;
	   if
	   :: root[me] == 0 -> acquire()
	   :: root[me] != 0 -> detach(ROOT); undertake()
	   :: true -> swap()
	   fi;
	   atomic { FORGET }
	:: else -> break
	od;
	goto drop;

crash:	atomic { FORGET; n = 0 }
	if
	:: SEALED ->
	   ob = redo[me].o;
	   if
	   :: redo[me].op == SWAP -> landed(cell.cid, cell.era); if :: ok -> CR; root[me] = ob :: else fi
	   :: redo[me].op == ATTACH -> landed(H[ob].cid, H[ob].era); if :: ok -> CR; root[me] = ob :: else fi
	   :: redo[me].op == PUSH -> landed(remote[OWNER(ob)].cid, remote[OWNER(ob)].era); if :: ok -> CR; top[me] = redo[me].next :: else fi
	   :: redo[me].op == POP ->
	      if :: H[ob].st == DEAD -> CR; d_step { freed[ob]++; H[ob].st = FREE; H[ob].cid = LINK; H[ob].era = 0 } :: else fi;
	      CR; top[me] = redo[me].next
	   :: redo[me].op == DETACH ->
	      landed(H[ob].cid, H[ob].era);
	      if
	      :: redo[me].phase || (H[ob].cid == me && H[ob].era == redo[me].era && H[ob].cnt == 0) ->
#ifndef BUG_NO_PHASE
		 CR; redo[me].phase = 1;
#endif
		 bury(ob, redo[me].slot)
	      :: else -> if :: ok -> CR; clear_slot(redo[me].slot) :: else fi
	      fi
	   fi
	:: else
	fi;
	CR; bump();
#ifdef BUG_DEAD_LIST_FORGOTTEN
	top[me] = 0;
#endif
	undertake();
drop:	if :: root[me] != 0 -> detach(ROOT) :: else fi;
	undertake();
	atomic { FORGET; done[me] = 1 }
}

init {
	atomic {
		E[1].seen[1] = 1; E[2].seen[2] = 1;
		H[1].st = LIVE; H[1].cnt = 1; root[1] = 1; field = 2;
		H[2].st = LIVE; H[2].cnt = 2; cell.v = 2;
		run Client(1); run Client(2)
	}
	(done[1] && done[2]);
	atomic {
		assert(freed[1] == 1 && H[1].cnt == 0 && field == 0);
		assert(root[1] == 0 && root[2] == 0 && top[1] == 0 && top[2] == 0);
		assert((cell.v == 2 && H[2].st == LIVE && H[2].cnt == 1 && freed[2] == 0) ||
		       (cell.v == 0 && H[2].st != LIVE && H[2].cnt == 0 && freed[2] == 1))
	}
}
