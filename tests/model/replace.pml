/*
 * A rename of a directory over an empty one: the one replaced is closed first.
 *
 * Stands for mark_replaced(), put() of shm/names_rename.c, names_raise(), names_lower() (DEBT_REVIVE), names_settle_with() of
 * shm/names_todo.c, and what names_removed() of shm/names.h takes for absent.
 *
 * Client 1 renames the directory a over the empty directory b: with whose turn it is (moves.pml), so that nobody else
 * renames either.  It takes b's count from 0 to {1 | REMOVED}, which nobody can add to and yet is there for all to see, and
 * owes that b be revived; then b's edge gets the new entry, and what is owed becomes the 1, which leaves b REMOVED.  It may
 * find the edge changed meanwhile, for want of room there (names_split()): then b is revived.  Client 2 makes OPS steps, each
 * any one of: make a name in b, take that away, remove b, make a directory b where none is.  Each transaction is one step
 * (names.pml).  Client 1 may die between any two, CRASHES times; client 2's death looks to it like being slow.
 *
 * Proves: a directory that was replaced is empty and REMOVED, one that was not has its count; the name b is never absent if
 * nobody removes it (WATCH).
 */
#ifndef OPS
#define OPS 2
#endif
#ifndef CRASHES
#define CRASHES 2
#endif

#define OLD 2                   /* the edge b holds: the directory that is to be replaced, */
#define MOVED 1                 /* the one that is renamed, */
#define MADE 3                  /* one that client 2 made, or nothing */

byte b = OLD;
bit a = 1;                      /* the old name is there */
byte count;                     /* of the directory to be replaced */
bit removed;
bit inside;                     /* the name in it */
byte crashes;
bit done[3];
/* client 1's slot */
bit intent, owed, revive;
bit acting;

#if CRASHES == 0
#define CR skip
#else
#define CR if :: skip :: crashes < CRASHES -> atomic { crashes++; goto crash } fi
#endif

proctype Rename() {
	/* nothing is there, or it is not empty: no more to do */
	atomic {
		CR;
		if
		:: b == OLD && !removed && count == 0 ->
#ifdef BUG_REPLACED_OPEN
		   skip
#elif defined(BUG_REPLACED_HIDDEN)
		   removed = 1; revive = 1
#else
		   removed = 1; count = 1; revive = 1
#endif
		:: else -> goto second
		fi
	}
	atomic {
		CR;
		if
		:: b == OLD ->
		   b = MOVED; intent = 1;
#ifdef BUG_REPLACED_OPEN
		   removed = 1;
#elif !defined(BUG_REPLACED_HIDDEN)
		   owed = 1;
#endif
		   revive = 0
		:: true
		fi
	}
	goto second;
crash:	acting = 1;
second:	if :: intent -> atomic { CR; a = 0; intent = 0 } :: else fi;
	if :: owed -> atomic { CR; count--; owed = 0 } :: else fi;
#ifdef BUG_REVIVE_FORGOTTEN
	if :: acting -> revive = 0 :: else fi;
#endif
	if :: revive -> atomic { CR; count = 0; removed = 0; revive = 0 } :: else fi;
	done[1] = 1
}

proctype Neighbour() {
	byte n; bit ok;
	do
	:: n < OPS && !inside ->
	   /* raise first, then the name; or it comes to nothing */
	   atomic { ok = !removed; if :: ok -> count++ :: else fi }
	   if
	   :: ok -> if :: inside = 1 :: count-- fi
	   :: else
	   fi;
	   n++
	:: n < OPS && inside -> inside = 0; count--; n++
#ifndef WATCH
	:: n < OPS && b == OLD ->
	   atomic { ok = (b == OLD && !removed && count == 0); if :: ok -> removed = 1 :: else fi }
	   if
	   :: ok -> atomic { if :: b == OLD -> b = 0 :: else fi }
	   :: else
	   fi;
	   n++
	:: n < OPS && b != MOVED ->
	   atomic { if :: b == 0 || (b == OLD && removed && count == 0) -> b = MADE :: else fi }
	   n++
#endif
	:: true -> break
	od;
	done[2] = 1
}

#ifdef WATCH
/* looks once, at any moment */
proctype Watch() { assert(b == MOVED || (b == OLD && !(removed && count == 0))) }
#endif

init {
	atomic {
#ifdef WATCH
		run Watch();
#endif
		run Rename(); run Neighbour()
	}
	(done[1] && done[2]);
	atomic {
		assert(!intent && !owed && !revive);
		assert(a != (b == MOVED));
		assert(b != OLD || (!removed && count == inside));
		assert(b == OLD || (removed && count == 0 && !inside))
	}
}
