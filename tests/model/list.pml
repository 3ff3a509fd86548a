/*
 * Listing a directory that changes: what is there from start to end is listed exactly once.
 *
 * Stands for try_next(), next(), read_edge(), position() of shm/names.c and cxlshm_readdir() of shm/api_names.c; what changes
 * the trie is there as names_split(), names_prune() and names_exchange() leave it to a reader.
 *
 * A trie of two levels of two edges: names have hashes of two bits, 0 to 3.  An edge of the directory is empty, or holds
 * an entry, or the node, of which there is one: its memory may be below edge 0, later below edge 1.  The name STAYS is there
 * all the time; one client puts and takes away the others, OPS times, and the node with them; one lists, from position 0
 * on.  What is read of the node counts only if the edge above was the same afterwards.  Stamps are unique.
 *
 * Proves: STAYS is listed once; no name twice.
 *
 * Left out: more levels, where a walk that begins again on its way down must not begin below where it was to (on_path);
 * clients that change the same edges at once, and freezing (nodes.pml); that an entry's memory may be another's (era.pml,
 * rule 5); deaths, which leave nothing but what one that is slow leaves.
 */
#ifndef OPS
#define OPS 3
#endif
#ifndef STAYS
#define STAYS 2
#endif

#define NONE 0                  /* values of an edge: NONE, NODE, or 1 + the hash of an entry */
#define NODE 9
#define ENTRY(h) (1 + (h))

typedef Word { byte value, stamp };
Word top[2];                    /* the directory's edges */
Word cell[2];                   /* the node's */
bit used;                       /* the node is somewhere */
byte now;                       /* the last stamp given */
bit there[4];
byte listed[4];
bit done[2];

inline write(w, v) { atomic { now++; w.value = v; w.stamp = now } }

/* the node is private until the edge leads to it */
inline split(i) {
	atomic {
		used = 1; now++;
		cell[0].value = NONE; cell[0].stamp = now; cell[1].value = NONE; cell[1].stamp = now;
#ifndef BUG_SPLIT_EMPTY
		cell[(top[i].value - 1) % 2].value = top[i].value;
#endif
		e = top[i].value
	}
	write(top[i], NODE);
#ifdef BUG_SPLIT_EMPTY
	write(cell[(e - 1) % 2], e);
#endif
	e = 0
}

inline insert(h) {
	if
	:: top[h / 2].value == NONE -> write(top[h / 2], ENTRY(h)); there[h] = 1
	:: top[h / 2].value == NODE -> write(cell[h % 2], ENTRY(h)); there[h] = 1
	:: top[h / 2].value != NONE && top[h / 2].value != NODE && !used ->
	   split(h / 2);
	   write(cell[h % 2], ENTRY(h)); there[h] = 1
	:: else                         /* here is only one node */
	fi
}

inline remove(h) {
	there[h] = 0;
	if
	:: top[h / 2].value == NODE ->
	   write(cell[h % 2], NONE);
	   if
	   :: cell[0].value == NONE && cell[1].value == NONE ->
	      write(top[h / 2], NONE);
	      /* what it is now is free memory */
	      atomic { used = 0; cell[0].value = 0; cell[0].stamp = 0; cell[1].value = 0; cell[1].stamp = 0 }
	   :: else
	   fi
	:: else -> write(top[h / 2], NONE)
	fi
}

proctype Changer() {
	byte n, h, e;
	do
	:: n < OPS ->
	   if :: h = 0 :: h = 1 :: h = 2 :: h = 3 fi;
	   if
	   :: h == STAYS
	   :: h != STAYS && there[h] -> remove(h)
	   :: h != STAYS && !there[h] -> insert(h)
	   fi;
	   n++
	:: else -> break
	od;
	done[0] = 1
}

proctype Lister() {
	byte from, i, j, v, s, u, found, skipped;
	bit on_path;
#ifdef BUG_POSITION_IS_COUNT
	byte so_far;
#endif
	/* the entry with the lowest hash from `from` on */
next:	atomic { i = from / 2; on_path = 1; found = 0; skipped = 0 }
	do
	:: i == 2 -> break
	:: else ->
	   atomic { v = top[i].value; s = top[i].stamp }
	   if
	   :: v == NONE
	   :: v == NODE ->
	      j = (on_path -> from % 2 : 0);
	      do
	      :: j == 2 -> break
	      :: else ->
		 u = cell[j].value;
#ifndef BUG_READ_OUT_OF_PLACE
		 if
		 :: top[i].value != v || top[i].stamp != s ->
		    /* begin again: here, unless that is where it was to begin */
#ifndef BUG_POSITION_IS_COUNT
		    if :: on_path :: !on_path -> from = 2 * i + j fi;
#endif
		    goto next
		 :: else
		 fi;
#endif
		 if
		 :: u != NONE && u - 1 >= from -> found = u; goto have
		 :: else
		 fi;
missed:		 j++; on_path = 0
	      od
	   :: else -> if :: v - 1 >= from -> found = v; goto have :: else fi
	   fi;
missed_top:
	   i++; on_path = 0
	od;
	goto end_list;

have:
#ifdef BUG_POSITION_IS_COUNT
	/* from the beginning, past as many as were listed */
	if
	:: skipped < so_far ->
	   skipped++;
	   if :: v == NODE -> goto missed :: else -> goto missed_top fi
	:: else -> so_far++
	fi;
#endif
	atomic {
		listed[found - 1]++; assert(listed[found - 1] == 1);
#ifndef BUG_POSITION_IS_COUNT
		from = found;           /* its hash, and one */
#endif
		v = 0; s = 0; u = 0; j = 0;
		if :: from == 4 -> goto end_list :: else -> goto next fi
	}
end_list:
	done[1] = 1
}

init {
	atomic {
		now = 1;
		/* the node below edge 0 with two names, and STAYS: one of them, or the one below edge 1 */
		top[0].value = NODE; top[0].stamp = 1; used = 1;
		cell[0].value = ENTRY(0); cell[0].stamp = 1; cell[1].value = ENTRY(1); cell[1].stamp = 1;
		there[0] = 1; there[1] = 1;
		if
		:: STAYS >= 2 -> top[1].value = ENTRY(STAYS); top[1].stamp = 1; there[STAYS] = 1
		:: else
		fi;
		run Changer(); run Lister()
	}
	(done[0] && done[1]);
	assert(listed[STAYS] == 1)
}
