/*
 * Directories: the entries word, insert, remove, rename, rmdir, and the debts
 * and intents that recovery settles.
 *
 * Directory P has the names a and b (edges 1, 2); edge 3 is P/c, or D/c when
 * the object named at first P/a is the directory D (KIND 2).  Each client runs
 * the operations given by OP1, THEN1; OP2, THEN2 (; OP3).  An edge holds an entry; an entry
 * says what it names.
 *
 * Proves, for the scripts check.sh runs: each directory's count equals its
 * names; no insert slips into a REMOVED directory; a directory is empty when it
 * becomes REMOVED, and has no name in the end, a LIVE one exactly one; a name
 * made by one client is not removed by another one's rename; of two renames of
 * one name at most one succeeds; while a rename runs, the object always has a
 * name (WATCH), and a name that it replaces is never missing (WATCH_B).
 *
 * The design as first written breaks under two scripts; HOLE_ switches bring it
 * back (README.md tells the story):
 * HOLE_RENAME_NO_UNDO    a rename that finds its old name gone keeps the new one
 * HOLE_RENAME_NO_PIN     the directory being renamed is not raised meanwhile
 * HOLE_RMDIR_NO_RECHECK  rmdir does not look at the name again after loading the word
 *
 * Left out: the trie around an edge (nodes.pml, list.pml); counts (an entry lives while an edge or a
 * root holds it, and its number is used again at once after that); replacing a
 * directory (replace.pml); exchange, which names what it displaced anew
 * (exchange.pml, swaps.pml); the pool-wide word by which renames of directories,
 * and exchanges with one, go one at a time (moves.pml).
 */
#include "core.pml"
#ifndef KIND
#define KIND 1                  /* what a names: 1 a file, 2 the directory D */
#endif
#ifndef OP1
#define OP1 REN_AB
#endif
#ifndef OP2
#define OP2 NOTHING
#endif
#ifndef OP3
#define OP3 NOTHING
#endif
#ifndef THEN1
#define THEN1 NOTHING           /* what client 1 does next */
#endif
#ifndef THEN2
#define THEN2 NOTHING
#endif
#define P 1
#define D 2
#define DIR_OF(e) ((e == 3 && KIND == 2) -> D : P)
#define ENTRIES 7
#define OTHER 3                 /* what a new file is */
#define REMOVED 99              /* value of a directory word; else its number of entries */

#define NOTHING 0
#define REN_AB 1
#define REN_BA 2
#define REN_AC 3
#define INS_A 4
#define INS_C 5
#define RM_A 6
#define RM_C 7
#define RMDIR_A 8
#define RMDIR_B 9

#define RAISE 1
#define LOWER 2
#define PUT 3                   /* insert; rename's new name */
#define REMOVE 4
#define RMDIR 5
#define UNDO 6

#define DEBT 0                  /* of an insert not made yet, or of a removal made */
#define PIN 1                   /* on the directory that is being renamed */

typedef Slot {
	byte held;              /* root: the entry the operation looked up */
	byte mine;              /* root: the new entry */
	byte old;               /* root: the entry replaced or removed */
	byte owed[2];           /* DEBT, PIN: directories whose count I raised and must lower */
	byte from, want, to;    /* intent: take entry `want` from edge `from`; in a rename, failing that, take `mine` from `to` */
};
Word word[3], edge[4];
#define FULL(x) (edge[x].v != 0)
byte what[ENTRIES+1];
Slot slot[N+1];
bit done[N+1];
bit won[N+1];                   /* its rename succeeded */
byte others = 0;                /* ghost: how many names should hold a file made by INS */

/* a sealed record holds what its CAS has put out of a name, until it is applied */
#define IN_SLOT(i,e) (slot[i].held == e || slot[i].mine == e || slot[i].old == e || (redo[i].op == PUT && redo[i].next == e))
#if N == 3
#define USED(e) (edge[1].v == e || edge[2].v == e || edge[3].v == e || IN_SLOT(1,e) || IN_SLOT(2,e) || IN_SLOT(3,e))
#else
#define USED(e) (edge[1].v == e || edge[2].v == e || edge[3].v == e || IN_SLOT(1,e) || IN_SLOT(2,e))
#endif

inline make_entry(WHAT) {
	d_step {
		k = 1; do :: USED(k) -> k++ :: else -> break od;
		assert(k <= ENTRIES); slot[me].mine = k; what[k] = WHAT; k = 0
	}
}
inline lookup(EDGE) { CR; slot[me].held = edge[EDGE].v }

/* one more entry in DIR; ok = 0 if it is REMOVED */
inline raise(DIR, WHY) {
	do
	:: load(word[DIR]);
	   if
#ifndef BUG_RAISE_REMOVED
	   :: wv == REMOVED -> if :: SEALED -> CR; bump() :: else fi; ok = 0; break
#endif
	   :: else ->
	      atomic { CR; PUBLISH(wc, we); CR; seal(RAISE, DIR, WHY, 0) }
	      atomic { CR; cas(word[DIR], wv + 1); if :: ok -> CR; slot[me].owed[WHY] = DIR; CR; bump() :: else fi }
	      if :: ok -> break :: else fi
	   fi
	od
}

/* what follows the CAS on an edge; each may be repeated */
inline apply_put(OLD, FROM, TO) {
	CR; slot[me].old = OLD;
#ifndef BUG_RAISE_LATE
	if :: OLD == 0 -> CR; slot[me].owed[DEBT] = 0 :: else fi;
#endif
	if
	:: FROM == 0 -> CR; slot[me].mine = 0
	:: else ->                              /* a rename's entry stays held as well: its number must not be used again */
	   CR; d_step { slot[me].from = FROM; slot[me].want = slot[me].held; slot[me].to = TO }
	fi
}
inline apply_remove(EDGE) {
#ifndef BUG_LOWER_EARLY
	CR; slot[me].owed[DEBT] = DIR_OF(EDGE);
#endif
	CR; d_step { if :: slot[me].to != 0 -> won[me] = 1 :: else fi; slot[me].from = 0; slot[me].to = 0; slot[me].want = 0 }
}
inline apply_undo(EDGE, OLD) {
	if :: OLD == 0 -> CR; slot[me].owed[DEBT] = DIR_OF(EDGE) :: else -> CR; slot[me].old = 0 fi;
	CR; d_step { slot[me].from = 0; slot[me].to = 0; slot[me].want = 0 }
}

#ifdef BUG_RENAME_REMOVES_ANY
#define IS_IT (wv == e || slot[me].to != 0)
#else
#define IS_IT (wv == e)
#endif

/* remove's second half, if it comes first: ok = 0 if there is nothing to lower */
inline lower_early(DIR) {
	do
	:: load(word[DIR]);
	   if
	   :: wv == REMOVED || wv == 0 -> if :: SEALED -> CR; bump() :: else fi; ok = 0; break
	   :: else ->
	      atomic { CR; PUBLISH(wc, we); CR; seal(LOWER, DIR, DEBT, 0) }
	      atomic { CR; cas(word[DIR], wv - 1); if :: ok -> CR; bump() :: else fi }
	      if :: ok -> break :: else fi
	   fi
	od
}

/* take the name f away, if it still is the entry e; ok says so */
inline remove() {
	do
	:: load(edge[f]);
	   if
	   :: wv == 0 || !IS_IT -> if :: SEALED -> CR; bump() :: else fi; ok = 0; break
	   :: else ->
	      atomic { CR; PUBLISH(wc, we); CR; seal(REMOVE, f, wv, 0) }
	      atomic {
		CR; cas(edge[f], 0);
		if
		:: ok ->
		   if :: what[wv] == OTHER && (slot[me].to == 0 || what[slot[me].mine] == OTHER) -> others-- :: else fi;
		   apply_remove(f); CR; bump()
		:: else
		fi
	      }
	      if :: ok -> break :: else fi
	   fi
	od
}

#ifdef BUG_RENAME_HOLDS_NOTHING
#define LET_GO slot[me].held = 0
#else
#define LET_GO skip
#endif

/* insert a new file at t (f = 0), or give what f names the name t as well, over whatever is there */
inline put() {
	if :: f != 0 -> lookup(f) :: else fi;
	ok = (f == 0 || slot[me].held != 0);
#ifndef HOLE_RENAME_NO_PIN
	if :: ok && f != 0 && what[slot[me].held] == D -> raise(D, PIN) :: else fi;
#endif
	if
	:: ok -> make_entry((f == 0 -> OTHER : what[slot[me].held]));
#if defined(BUG_OLD_FIRST)
	   /* what the old name needed of the count goes over to the new one; nothing is left to remove after that */
	   if
	   :: f != 0 -> e = slot[me].held; remove(); f = 0
	   :: else -> raise(DIR_OF(t), DEBT)
	   fi
#elif defined(BUG_REPLACED_FIRST)
	   if
	   :: f != 0 && FULL(t) -> x = f; f = t; e = edge[t].v; remove(); f = x; x = 0
	   :: else -> raise(DIR_OF(t), DEBT)
	   fi
#elif !defined(BUG_RAISE_LATE)
	   raise(DIR_OF(t), DEBT)
#endif
	:: else
	fi;
	do
	:: !ok -> break
	:: else ->
	   load(edge[t]);
	   if
	   :: f == 0 && wv != 0 -> if :: SEALED -> CR; bump() :: else fi; break
	   :: else ->
	      atomic { CR; PUBLISH(wc, we); CR; seal(PUT, t, f, wv) }
	      atomic {
		CR; cas(edge[t], slot[me].mine);
		if
		:: ok ->
		   others = others + (what[slot[me].mine] == OTHER) - (what[wv] == OTHER);
		   apply_put(wv, f, t); LET_GO; CR; bump(); ok = 0
		:: else -> ok = 1
		fi
	      }
#ifdef BUG_RAISE_LATE
	      if :: !ok -> raise(DIR_OF(t), DEBT); slot[me].owed[DEBT] = 0; ok = 0 :: else fi
#endif
	   fi
	od;
	f = 0
}

inline rmdir() {
	lookup(f);
	if
	:: slot[me].held != 0 && what[slot[me].held] == D ->
	   do
	   :: load(word[D]);
	      ok = (wv == 0);                   /* else: not empty, being renamed, or removed */
#ifndef HOLE_RMDIR_NO_RECHECK
	      /* a rename raises D before it touches a name and lowers it after: while D is as loaded, the name is right */
	      if :: ok -> CR; ok = (edge[f].v == slot[me].held) :: else fi;
#endif
	      if
	      :: !ok -> if :: SEALED -> CR; bump() :: else fi; break
	      :: else ->
#ifdef BUG_RMDIR_NO_MARK
		 CR; d_step { slot[me].from = f; slot[me].want = slot[me].held }
		 break
#else
		 atomic { CR; PUBLISH(wc, we); CR; seal(RMDIR, D, f, slot[me].held) }
		 atomic { CR; cas(word[D], REMOVED);
			if
			:: ok -> assert(!FULL(3)); CR; d_step { slot[me].from = f; slot[me].want = slot[me].held } CR; bump()
			:: else
			fi }
		 if :: ok -> break :: else fi
#endif
	      fi
	   od
	:: else
	fi;
	f = 0
}

/* unlink: f, e stay set for the removal below */
inline unlink() {
	lookup(f);
	e = slot[me].held;
	if :: e == 0 || what[e] == D -> f = 0; e = 0 :: else fi
}

/* a rename whose old name went to somebody else takes its new one back, if that is still there */
inline undo() {
	do
	:: slot[me].to == 0 -> break
	:: else ->
	   load(edge[slot[me].to]);
	   if
	   :: wv != slot[me].mine -> if :: SEALED -> CR; bump() :: else fi; break
	   :: else ->
	      atomic { CR; PUBLISH(wc, we); CR; seal(UNDO, slot[me].to, 0, slot[me].old) }
	      atomic {
		CR; cas(edge[slot[me].to], slot[me].old);
		if
		:: ok ->
		   others = others + (what[slot[me].old] == OTHER) - (what[wv] == OTHER);
		   e = slot[me].to; apply_undo(e, redo[me].next); CR; bump()
		:: else
		fi
	      }
	   fi
	od
}

/* the second half of every operation, and all of it that recovery needs: pay the debt, carry out the intent, unpin */
inline settle() {
	do
#ifdef BUG_DEBT_FORGOTTEN
	:: dead && slot[me].owed[DEBT] != 0 -> slot[me].owed[DEBT] = 0
#endif
	:: slot[me].owed[DEBT] != 0 || (slot[me].owed[PIN] != 0 && slot[me].from == 0) ->
	   x = (slot[me].owed[DEBT] != 0 -> DEBT : PIN);
	   load(word[slot[me].owed[x]]); assert(wv != REMOVED && wv > 0);
	   atomic { CR; PUBLISH(wc, we); CR; seal(LOWER, slot[me].owed[x], x, 0) }
	   atomic { CR; cas(word[slot[me].owed[x]], wv - 1); if :: ok -> CR; slot[me].owed[x] = 0; CR; bump() :: else fi }
#ifdef BUG_INTENT_FORGOTTEN
	:: dead && slot[me].from != 0 -> slot[me].from = 0; slot[me].to = 0
#endif
	:: slot[me].owed[DEBT] == 0 && (slot[me].from != 0 || f != 0) ->
	   if :: slot[me].from != 0 -> f = slot[me].from; e = slot[me].want :: else fi;
#ifdef BUG_LOWER_EARLY
	   lower_early(DIR_OF(f));
	   if
	   :: ok -> remove(); if :: !ok -> raise(DIR_OF(f), DEBT); slot[me].owed[DEBT] = 0 :: else fi    /* overtaken: as it was */
	   :: else
	   fi;
#else
	   remove();
#endif
	   if
	   :: slot[me].from == 0        /* done; or an unlink, done or overtaken */
	   :: else ->
#ifdef HOLE_RENAME_NO_UNDO
	      won[me] = (slot[me].to != 0);
#else
	      undo();
#endif
	      CR; d_step { slot[me].from = 0; slot[me].to = 0; slot[me].want = 0 }
	   fi;
	   f = 0
	:: else -> break
	od;
	CR; d_step { slot[me].held = 0; slot[me].mine = 0; slot[me].old = 0 }
}

#define FORGET wv = 0; wc = 0; we = 0; ok = 0; e = 0; f = 0; t = 0; x = 0; k = 0

proctype Client(byte me; byte script) {
	WORD_LOCALS; byte e, f, t, x; bit dead;
life:	do
	:: script != 0 ->
	   if
	   :: script % 10 == REN_AB -> f = 1; t = 2
	   :: script % 10 == REN_BA -> f = 2; t = 1
	   :: script % 10 == REN_AC -> f = 1; t = 3
	   :: script % 10 == INS_A -> t = 1
	   :: script % 10 == INS_C -> t = 3
	   :: script % 10 == RM_A || script % 10 == RMDIR_A -> f = 1
	   :: script % 10 == RMDIR_B -> f = 2
	   :: script % 10 == RM_C -> f = 3
	   fi;
	   if
	   :: t != 0 -> put()
	   :: script % 10 == RMDIR_A || script % 10 == RMDIR_B -> rmdir()
	   :: t == 0 && (script % 10 == RM_A || script % 10 == RM_C) -> unlink()
	   fi;
	   script = script / 10;
	   goto resume
	:: else -> goto out
	od;

crash:	atomic { FORGET; script = 0; dead = 1 }
	if
	:: SEALED ->
	   atomic { t = redo[me].slot; f = redo[me].o; e = redo[me].next }
	   if
	   :: redo[me].op == RAISE || redo[me].op == LOWER || redo[me].op == RMDIR -> landed(word[t].cid, word[t].era)
	   :: else -> landed(edge[t].cid, edge[t].era)
	   fi;
	   if
	   :: !ok
	   :: ok && redo[me].op == RAISE -> CR; slot[me].owed[f] = t
	   :: ok && redo[me].op == LOWER -> CR; slot[me].owed[f] = 0
	   :: ok && redo[me].op == RMDIR -> CR; d_step { slot[me].from = f; slot[me].want = e }
	   :: ok && redo[me].op == PUT -> apply_put(e, f, t)
	   :: ok && redo[me].op == REMOVE -> apply_remove(t)
	   :: ok && redo[me].op == UNDO -> apply_undo(t, e)
	   fi
	:: else
	fi;
	CR; bump();
	atomic { FORGET }
resume:	settle();
	atomic { FORGET }
	goto life;
out:	done[me] = 1
}

#define HOLDS(x, w) (edge[x].v != 0 && what[edge[x].v] == w)
#define NAMES(w) (HOLDS(1, w) + HOLDS(2, w) + HOLDS(3, w))

/* looks once, at any moment */
#if defined(WATCH)
proctype Watch() { assert(NAMES(KIND) > 0) }
#elif defined(WATCH_B)
proctype Watch() { assert(FULL(2)) }
#endif

init {
	byte i;
	atomic {
		i = 1; do :: i <= N -> E[i].seen[i] = 1; i++ :: else -> break od;
		edge[1].v = 1; what[1] = KIND; word[P].v = 1;
#ifdef B_TAKEN
		edge[2].v = 2; what[2] = OTHER; word[P].v = 2; others = 1;
#endif
#if defined(WATCH) || defined(WATCH_B)
		run Watch();
#endif
		run Client(1, OP1 + 10 * THEN1); run Client(2, OP2 + 10 * THEN2);
#if N == 3
		run Client(3, OP3)
#endif
	}
	(done[1] && done[2] && (N == 2 || done[N]));
	atomic {
		i = 1; do :: i <= N -> assert(slot[i].owed[DEBT] == 0 && slot[i].owed[PIN] == 0 && slot[i].from == 0); i++ :: else -> break od;
		assert(word[P].v == FULL(1) + FULL(2) + (KIND == 1 && FULL(3)));
		assert(NAMES(OTHER) == others);
		assert(won[1] + won[2] <= 1 || !(OP1 == REN_AB && OP2 == REN_AC));
		assert(NAMES(KIND) <= 1);
		assert(KIND == 1 || word[D].v != REMOVED || (NAMES(D) == 0 && !FULL(3)));
		assert(KIND == 1 || word[D].v == REMOVED || (NAMES(D) == 1 && word[D].v == FULL(3)))
	}
}
