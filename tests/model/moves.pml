/*
 * Renames of directories go one at a time: the pool-wide word that says whose turn it is, and what it is for.
 *
 * Stands for begin_move(), is_above(), check_loops(), put() of shm/names_rename.c and names_move_take(), holds_move(),
 * move_set(), move_give(), set_parent(), finish_unlink(), names_settle_with() of shm/names_todo.c.
 *
 * The root has the directories A and B, under the names a and b.  Edges: 1 a and 2 b in the root, 3 a in B, 4 b in A, 5 c
 * in the root.  Each client runs the renames given by OP1, THEN1; OP2, THEN2.  An edge holds an entry, an entry says which
 * directory it names, and each directory knows its parent, which is what the look for loops follows.
 *
 * The word is changed with a record, as core.pml has it, for that is what tells a dead client's recovery that it has the
 * turn, and a waiting client that the one in the word knows of it (holds_move(): else the pool is damaged).  A change of an
 * edge and the note of what is still to do are one transaction (names.pml), so here one step.
 *
 * Proves: in the end each directory has one name and is in the directory that its parent says; the root is above all
 * of them; the word is free.  No rename of a directory is overtaken.  Nobody who waits takes the pool for damaged.
 *
 * Left out: counts, and that a directory is raised while it is renamed (names.pml); replacing one; exchange
 * (exchange.pml); that the look at both names is repeated once it is one's turn, which spares only a round, for the edge is
 * asked again when the entry is taken; progress of who waits.
 */
#include "core.pml"
#ifndef OP1
#define OP1 A_TO_B
#endif
#ifndef OP2
#define OP2 B_TO_A
#endif
#ifndef THEN1
#define THEN1 NOTHING
#endif
#ifndef THEN2
#define THEN2 NOTHING
#endif
#define NOTHING 0
#define A_TO_B 13               /* old name, new name */
#define A_BACK 31
#define A_TO_C 15
#define B_TO_A 24
#define B_BACK 42

#define ROOT 0
#define A 1
#define B 2
#define DIR_OF(edge) ((edge == 3) -> B : ((edge == 4) -> A : ROOT))
#define EDGES 5
#define ENTRIES 6

#define TURN 1                  /* the one record: takes the turn or gives it back */

typedef Slot {
	byte mine;              /* root: the entry for the new name */
	byte from, want, to;    /* intent: take entry `want` from edge `from`; `mine` went to `to` */
};
Word turn;                      /* whose it is, or 0 */
bit moving[N+1];                /* the slot's note that it is his */
byte edge[EDGES+1];
byte what[ENTRIES+1];           /* the directory that an entry names; entries 1 and 2 are there from the beginning */
byte parent[3];
Slot slot[N+1];
bit done[N+1], dead[N+1];

inline apply_turn(VALUE) { CR; moving[me] = (VALUE != 0) }

/* one try to change the word, with the note in the same transaction */
inline turn_set(VALUE) {
	atomic { CR; PUBLISH(wc, we);
#ifdef BUG_TURN_UNLOGGED
		skip
#else
		CR; seal(TURN, 0, VALUE, 0)
#endif
	}
	/* steps of their own: who waits for the turn looks at all of it */
	CR; cas(turn, VALUE);
	if :: ok -> apply_turn(VALUE) :: else fi;
	CR; bump()
}

/*
 * Does client h, which the word names, know of it?  From the CAS that takes the turn to the one that gives it back his
 * record is sealed or, once that is applied, his slot says so.
 */
inline look_at_holder(h) {
#ifdef BUG_SLOT_BEFORE_RECORD
	ok = moving[h];
	ok = ok || (redo[h].op != 0 && redo[h].era == E[h].seen[h]);
#else
	ok = (redo[h].op != 0 && redo[h].era == E[h].seen[h]);
	ok = ok || moving[h];
#endif
	assert(ok || turn.v != wv || turn.cid != wc || turn.era != we)
}

inline take_turn() {
	do
	:: load(turn);
	   if
	   :: wv == 0 -> turn_set(me); if :: ok -> break :: else fi
#ifdef BUG_TURN_STOLEN
	   :: wv != 0 && dead[wv] -> turn_set(me); if :: ok -> break :: else fi
#endif
	   :: wv != 0 ->
	      look_at_holder(wv);
	      atomic { (turn.v != wv || turn.cid != wc || turn.era != we
#ifdef BUG_TURN_STOLEN
		|| dead[wv]
#endif
		) -> ok = 0 }           /* he gives it back, or whoever recovers him does */
	   fi
	od
}

inline give_turn() {
	do
	:: moving[me] ->
	   load(turn);
	   if
	   :: wv != me -> moving[me] = 0       /* damaged, it says to the code */
	   :: else -> turn_set(0)
	   fi
	:: else -> break
	od
}

/* ok = 0 if directory d is t's, or above it */
inline look_for_loop() {
	x = DIR_OF(t); k = 0;
	do
	:: x == d -> ok = 0; break
	:: x == ROOT && x != d -> ok = 1; break
	:: else -> CR; x = parent[x]; k++; assert(k < 4)       /* more steps than directories: a loop */
	od;
	x = 0; k = 0
}

/* the second half, and all of it that recovery needs */
inline settle() {
#ifdef BUG_TURN_GIVEN_FIRST
	give_turn();
#endif
	if
	:: slot[me].from != 0 ->
#ifndef BUG_PARENT_LAST
	   CR; parent[what[slot[me].mine]] = DIR_OF(slot[me].to);
#endif
	   atomic {
		CR;
		if
		:: edge[slot[me].from] == slot[me].want -> edge[slot[me].from] = 0; slot[me].from = 0
		:: else
		fi
	   }
	   /* never overtaken: the name of a directory changes only by whose turn it is.  undo() sets no parent back */
	   assert(slot[me].from == 0);
#ifdef BUG_PARENT_LAST
	   CR; parent[what[slot[me].mine]] = DIR_OF(slot[me].to)
#endif
	:: else
	fi;
#ifdef BUG_TURN_KEPT
	if :: dead[me] -> moving[me] = 0 :: else fi;
#endif
	give_turn();
	CR; d_step { slot[me].mine = 0; slot[me].want = 0; slot[me].to = 0 }
}

#define FORGET wv = 0; wc = 0; we = 0; ok = 0; k = 0; d = 0; f = 0; t = 0; x = 0; e = 0

proctype Client(byte me; byte first; byte then) {
	WORD_LOCALS; byte d, f, t, x, e, n;
life:	do
	:: first != NOTHING ->
	   atomic { f = first / 10; t = first % 10; first = then; then = NOTHING; n++ }
	   CR; e = edge[f];
	   if
	   :: e != 0 ->
	      d = what[e];
#ifdef BUG_LOOP_LOOKED_FOR_FIRST
	      look_for_loop();
	      if :: !ok -> goto settled :: else fi;
#endif
#ifndef BUG_MOVE_TOGETHER
	      take_turn();
#endif
	      if :: edge[f] != e -> goto settled :: else fi;
#ifndef BUG_LOOP_LOOKED_FOR_FIRST
	      look_for_loop();
	      if :: !ok -> goto settled :: else fi;
#endif
	      CR; d_step { slot[me].mine = 2 * me + n; what[slot[me].mine] = d }
	      atomic {
		CR;
		if
		:: edge[t] == 0 -> edge[t] = slot[me].mine; slot[me].from = f; slot[me].want = e; slot[me].to = t
		:: else
		fi
	      }
	   :: else
	   fi;
settled:   atomic { FORGET }
	   settle();
	   atomic { FORGET }
	:: else -> break
	od;
	goto out;

crash:	atomic { FORGET; first = NOTHING; then = NOTHING; dead[me] = 1 }
	if
	:: SEALED -> landed(turn.cid, turn.era); if :: ok -> apply_turn(redo[me].o) :: else fi
	:: else
	fi;
	CR; bump();
	atomic { FORGET }
	settle();
	atomic { FORGET; dead[me] = 0 }
out:	atomic { assert(turn.v != me); n = 0; done[me] = 1 }
}

#define NAMES(D) ((edge[1] != 0 && what[edge[1]] == D) + (edge[2] != 0 && what[edge[2]] == D) + \
	(edge[3] != 0 && what[edge[3]] == D) + (edge[4] != 0 && what[edge[4]] == D) + (edge[5] != 0 && what[edge[5]] == D))

init {
	byte i;
	atomic {
		i = 1; do :: i <= N -> E[i].seen[i] = 1; i++ :: else -> break od;
		edge[1] = 1; what[1] = A; edge[2] = 2; what[2] = B;
		run Client(1, OP1, THEN1); run Client(2, OP2, THEN2)
	}
	(done[1] && done[2]);
	atomic {
		assert(turn.v == 0 && !moving[1] && !moving[2]);
		assert(NAMES(A) == 1 && NAMES(B) == 1);
		i = 1;
		do
		:: i <= EDGES -> assert(edge[i] == 0 || parent[what[edge[i]]] == DIR_OF(i)); i++
		:: else -> break
		od;
		assert(parent[A] != B || parent[B] != A)
	}
}
