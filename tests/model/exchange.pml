/*
 * An exchange of two names, and what becomes of the one it displaced.
 *
 * Stands for prepare() and put() of shm/names_rename.c (CXLSHM_EXCHANGE) and finish_unlink(), undo(), put_displaced(),
 * put_back(), put_elsewhere(), name_own(), names_settle_with() of shm/names_todo.c.
 *
 * Client 1 exchanges the name a in directory P, of file X, with the name b in directory Q, of Y, which may be a directory
 * and says which one it is in.  First b becomes X's (from here on it happens, and Y has no name), then a becomes Y's.  If a
 * is not the same entry any more, X's new name is taken back and Y gets b again; if that has gone, too, Y gets a if it is
 * free, else b if it is free, else a name of its own in Q, made of b and Y's number.  Client 2 makes OPS steps, each any one
 * of: take a or b away, put a new file there or over what is there, remove Q.  With COMES_BACK what it puts over something
 * may be a rename's new name that is taken back, and then the entry that was there comes back.
 *
 * Each transaction is one step: an edge, the row and what is owed change together (era.pml, names.pml).  Client 1 may die
 * between any two, CRASHES times, and whoever recovers it goes on with settle().  Death of client 2 looks to client 1 as if
 * it were slow: its debts are paid late.
 *
 * Proves: what client 2 took no name from has exactly one in the end (X, if entries come back, perhaps two: a surplus
 * link), and no other file goes; both names show all the time if nobody else touches them, and X under one of them
 * (WATCH); counts of names and entries are right; Y is where it says; an entry hangs where its name belongs; no more is
 * owed at once than there is room for.
 *
 * Left out: whose turn it is to rename directories, and X's parent (moves.pml); several exchanges and renames at once
 * (swaps.pml); that the own name may be taken, too (then it gets a number); room for it, which the entry has from the
 * beginning; that P is removed; -EAGAIN, after which client 1 begins again.
 */
#ifndef OPS
#define OPS 3
#endif
#ifndef CRASHES
#define CRASHES 1
#endif

#define P 0                     /* counts: entries of P and Q, names of X and Y */
#define Q 1
#define X 2
#define Y 3
#define OTHER 4                 /* a file of client 2's */
#define REMOVED 50

#define A 1                     /* edges: P/a, Q/b, Y's own name in Q and in P */
#define B 2
#define OWN_Q 3
#define OWN_P 4
#define DIR_OF(x) ((x == A || x == OWN_P) -> P : Q)

/* entries: 1 a of X, 2 b of Y, 3 b of X, 4 of Y: a, or the own name; from 5 on client 2's */
#define WHAT(e) ((e == 1 || e == 3) -> X : ((e == 2 || e == 4) -> Y : OTHER))
#define ROOM 5                  /* DEBTS in format.h */

byte edge[5];
byte count[5];
byte crashes, n_new, others;    /* others: how many files of client 2's should have a name */
/* client 1's slot, and the plan in the new entry */
byte owed[4];
bit intent;                     /* the old name is still to be taken away */
bit replaced;                   /* plan.replaced: the entry 2 is to get its name back if it comes to that */
byte parent = Q;                /* of Y */
bit hash_own, text_own;         /* of entry 4: made for a, or for the own name */
bit taken[5];                   /* client 2 took a name of X, of Y */
bit done[3];
bit acting;

#if CRASHES == 0
#define CR skip
#else
#define CR if :: skip :: crashes < CRASHES -> atomic { crashes++; ok = 0; goto crash } fi
#endif

#define RIGHT_AMOUNT assert(owed[P] + owed[Q] + owed[X] + owed[Y] <= ROOM)

/* one more in count c, and owe it; ok = 0: a removed directory's */
inline raise(c) {
	CR;
	atomic {
		ok = (count[c] != REMOVED);
		if :: ok -> count[c]++; owed[c]++; RIGHT_AMOUNT :: else fi
	}
}

inline set_parent(d) { if :: parent != d -> CR; parent = d :: else fi }

inline clear_intent() { CR; intent = 0 }

/* entry e at the edge x if that is free, in its directory, with what is owed for it; ok says so */
inline put_back(e, x) {
	if
	:: owed[DIR_OF(x)] == 0 -> raise(DIR_OF(x))
	:: else -> ok = 1
	fi;
	if
	:: ok ->
	   atomic {
		CR;
		ok = (edge[x] == 0);
		if
		:: ok ->
		   edge[x] = e;
#ifndef BUG_PLACED_UNLOGGED
		   owed[DIR_OF(x)]--; owed[Y]--; intent = 0
#endif
		:: else
		fi
	   }
#ifdef BUG_PLACED_UNLOGGED
	   if :: ok -> CR; d_step { owed[DIR_OF(x)]--; owed[Y]--; intent = 0 } :: else fi
#endif
	:: else
	fi
}

/* neither name is what the exchange made it */
inline put_displaced() {
#ifdef BUG_DISPLACED_DROPPED
	ok = 0;
#else
	ok = 0;
	if
	:: replaced ->
	   set_parent(P);
	   if
	   :: hash_own -> put_back(4, OWN_P)    /* only without the note in the plan */
	   :: else -> put_back(4, A)
	   fi;
	   if
	   :: !ok -> set_parent(Q); put_back(2, B)
	   :: else
	   fi
	:: else
	fi;
#ifndef BUG_NO_OWN_NAME
	if
	:: !ok ->
	   set_parent(Q);
#ifndef BUG_OWN_NAME_UNNOTED
	   CR; replaced = 0;
#endif
	   CR; hash_own = 1;
	   CR; text_own = 1;
	   put_back(4, OWN_Q)
	:: else
	fi;
#endif
#endif
	if :: !ok -> clear_intent() :: else fi
}

/* the new name is taken back if it is still there */
inline undo() {
#ifndef BUG_UNDO_KEEPS_PARENT
	set_parent(Q);
#endif
	atomic {
		CR;
#ifdef BUG_UNDO_ANY
		if :: edge[B] != 0 && WHAT(edge[B]) == OTHER -> edge[B] = 3 :: else fi;
#endif
		ok = (edge[B] == 3);
		if :: ok -> edge[B] = 2; owed[X]++; RIGHT_AMOUNT; owed[Y]--; intent = 0 :: else fi
	}
	if :: !ok -> put_displaced() :: else fi
}

/* the second half, and all of it that recovery needs */
inline settle() {
	do
#ifdef BUG_EXCHANGE_FORGOTTEN
	:: acting && intent -> intent = 0
#endif
	:: intent && !replaced -> put_displaced()      /* its maker died in put_elsewhere() */
	:: intent && replaced ->
#ifndef BUG_DISPLACED_NO_PARENT
	   set_parent(P);
#endif
	   atomic {
		CR;
#ifdef BUG_EXCHANGE_TAKES_ANY
		ok = (edge[A] != 0);
#else
		ok = (edge[A] == 1);
#endif
		if :: ok -> edge[A] = 4; owed[X]++; RIGHT_AMOUNT; owed[Y]--; intent = 0 :: else fi
	   }
	   if :: !ok -> undo() :: else fi
	:: else -> break
	od;
	do
	:: owed[P] > 0 -> CR; d_step { assert(count[P] > 0 && count[P] != REMOVED); count[P]--; owed[P]-- }
	:: owed[P] == 0 && owed[Q] > 0 -> CR; d_step { assert(count[Q] > 0 && count[Q] != REMOVED); count[Q]--; owed[Q]-- }
	:: owed[P] == 0 && owed[Q] == 0 && owed[X] > 0 -> CR; d_step { assert(count[X] > 0); count[X]--; owed[X]-- }
	:: owed[P] == 0 && owed[Q] == 0 && owed[X] == 0 && owed[Y] > 0 -> CR; d_step { assert(count[Y] > 0); count[Y]--; owed[Y]-- }
	:: else -> break
	od
}

proctype Exchange() {
	bit ok;
	/* both names are what they were when it looked; else it begins again */
	raise(X);
#ifndef BUG_EXCHANGE_NOT_RAISED
	raise(Q);
#else
	ok = 1;
#endif
	if
	:: ok ->
	   atomic {
		CR;
		if
		:: edge[B] == 2 -> edge[B] = 3; intent = 1; replaced = 1; owed[X]--; owed[Y]++; RIGHT_AMOUNT
		:: else
		fi
	   }
	:: else
	fi;
	goto second;
crash:	acting = 1;
second:	settle();
	done[1] = 1
}

/* what client 2's step on an edge leaves to lower */
inline lower(c) { if :: c != OTHER -> assert(count[c] > 0 && count[c] != REMOVED); count[c]-- :: else fi }

proctype Neighbour() {
	byte n, x, e, d;
again:	do
	:: n < OPS && edge[A] != 0 -> x = A; goto take
	:: n < OPS && edge[B] != 0 -> x = B; goto take
	:: n < OPS -> x = A; goto put
	:: n < OPS -> x = B; goto put
	:: n < OPS -> atomic { if :: count[Q] == 0 -> assert(edge[B] == 0 && edge[OWN_Q] == 0); count[Q] = REMOVED :: else fi; n++ }
	:: true -> break                /* or stops before */
	od;
	goto out;

take:	atomic {
		e = edge[x];
		if
		:: e != 0 -> edge[x] = 0; taken[WHAT(e)] = 1; if :: WHAT(e) == OTHER -> others-- :: else fi
		:: else
		fi
	}
	if
	:: e != 0 -> atomic { lower(WHAT(e)) } atomic { lower(DIR_OF(x)) }
	:: else
	fi;
	goto next;

	/* a new file, or another one's entry over what is there */
put:	atomic {
		if :: count[DIR_OF(x)] == REMOVED -> goto next :: else -> count[DIR_OF(x)]++ fi
	}
	atomic {
		e = edge[x]; edge[x] = 5 + n_new; n_new++; others++; d = edge[x]
	}
	/* it was a rename, and is overtaken: what it replaced comes back */
	if
#ifdef COMES_BACK
	:: atomic { e != 0 && edge[x] == d -> edge[x] = e; others--; e = 0; d = DIR_OF(x) }
	   atomic { lower(d) }
#endif
	:: atomic { true ->
		d = 0;
		if :: e != 0 -> taken[WHAT(e)] = 1; if :: WHAT(e) == OTHER -> others-- :: else fi :: else fi }
	fi;
	if
	:: e != 0 -> atomic { lower(WHAT(e)) } atomic { lower(DIR_OF(x)) }
	:: else
	fi;

next:	atomic { n++; x = 0; e = 0; d = 0 }
	goto again;

out:	atomic { n = 0; x = 0; e = 0; done[2] = 1 }
}

#define IS(x, w) (edge[x] != 0 && WHAT(edge[x]) == w)
#define NAMES(w) (IS(A, w) + IS(B, w) + IS(OWN_Q, w) + IS(OWN_P, w))

#ifdef WATCH
/* looks once, at any moment */
proctype Watch() { assert(edge[A] != 0 && edge[B] != 0 && NAMES(X) > 0) }
#endif

init {
	atomic {
		edge[A] = 1; edge[B] = 2;
		count[P] = 1; count[Q] = 1; count[X] = 1; count[Y] = 1;
#ifdef WATCH
		run Watch();
#endif
		run Exchange(); run Neighbour()
	}
	(done[1] && done[2]);
	atomic {
		assert(!intent && owed[P] + owed[Q] + owed[X] + owed[Y] == 0);
#ifdef COMES_BACK
		assert(taken[X] || NAMES(X) > 0);
#else
		assert(taken[X] || NAMES(X) == 1);
#endif
		assert(taken[Y] || NAMES(Y) == 1);
		assert(taken[Y] || parent == ((IS(A, Y) || IS(OWN_P, Y)) -> P : Q));
		assert(NAMES(OTHER) == others);
		assert(count[X] == NAMES(X) && count[Y] == NAMES(Y));
		assert(count[P] == (edge[A] != 0) + (edge[OWN_P] != 0));
		assert(count[Q] == (edge[B] != 0) + (edge[OWN_Q] != 0) || (count[Q] == REMOVED && edge[B] == 0 && edge[OWN_Q] == 0));
		assert(edge[A] != 4 || !text_own);
		assert(edge[OWN_Q] != 4 || text_own);
		assert(edge[OWN_P] != 4 || text_own)
	}
}
