/*
 * File objects and their extents: each file in x/ belongs to an object that says so, and goes with it, and no other file does.
 *
 * Stands for extent_make(), extent_apply_make(), extent_reclaim() of shm/extent.c and its call in ref_undertake_all() of
 * shm/ref.c.
 *
 * Each of two clients makes OPS file objects, one at a time, and drops it, or keeps it.  Up to CRASHES of them die at any
 * step; whoever recovers one finishes the record, which says id and owner, and drops what the dead one had.  He may delete its
 * files, but perhaps not open one that is half made (extent_apply_make()).  A file's id is the stamp of the era that made it.
 *
 * Proves: in the end there is a file for each object that is kept, made by its owner, and no other.
 *
 * Left out: the object's block and its count (era.pml); that an object is freed and popped in one transaction (reclaim.pml):
 * here that is one step; sizes and memory; who only reads.
 */
#ifndef OPS
#define OPS 2
#endif
#ifndef CRASHES
#define CRASHES 2
#endif
#define IDS 8

byte file[IDS+1];               /* who made it, 0: there is no such file */
byte owner[3];                  /* the id that the client's object says, or 0 */
bit object[3];                  /* the client's object is there */
bit sealed[3];
byte record[3];
bit dead_list[3];               /* the object's count is zero: it hangs on its client's dead list */
byte era[3];
bit kept[3];
byte crashes;
bit done[3];

#if CRASHES == 0
#define CR skip
#else
#define CR if :: skip :: crashes < CRASHES -> atomic { crashes++; goto crash } fi
#endif

#ifdef BUG_ID_REUSED
/* the first that no file has */
#define NEW_ID atomic { id = 1; do :: file[id] != 0 -> id++ :: else -> break od }
#else
#define NEW_ID id = 2 * era[me] + me - 2
#endif

inline make_file(i) {
	CR;
	atomic {
		if
		:: file[i] == 0 -> file[i] = me
		:: file[i] != 0 -> skip
		fi
	}
}

/* what the sealed record says; may be repeated.  Whoever recovers may fail at the file. */
inline apply_make() {
#ifdef BUG_FILE_BEFORE_OWNER
	if
	:: make_file(record[me]); CR; owner[me] = record[me]
	:: acting -> skip
	fi
#else
	CR; owner[me] = record[me];
	if
	:: make_file(record[me])
	:: acting -> skip
	fi
#endif
}

inline bump() { d_step { era[me]++; sealed[me] = 0; record[me] = 0 } }

inline reclaim() {
	if
	:: dead_list[me] ->
#ifdef BUG_BLOCK_FIRST
	   d_step { id = owner[me]; owner[me] = 0; object[me] = 0; dead_list[me] = 0 }
	   CR;
	   file[id] = 0
#else
	   CR;
	   if :: owner[me] != 0 -> file[owner[me]] = 0 :: else fi;
	   CR;
	   d_step { owner[me] = 0; object[me] = 0; dead_list[me] = 0 }
#endif
	:: else
	fi
}

proctype Client(byte me) {
	byte n, id; bit acting;
	do
	:: n < OPS ->
	   n++;
	   CR; object[me] = 1;
	   NEW_ID;
	   atomic { CR; sealed[me] = 1; record[me] = id; id = 0 }
	   apply_make();
	   CR; bump();
	   if
	   :: CR; dead_list[me] = 1; reclaim()
	   :: atomic { kept[me] = 1; goto out }
	   fi
	:: else -> break
	od;
	goto out;

crash:	atomic { id = 0; n = OPS; acting = 1 }
	if :: sealed[me] -> apply_make() :: else fi;
	CR; bump();
	if :: object[me] -> CR; dead_list[me] = 1 :: else fi;
	reclaim();
out:	atomic { n = 0; acting = 0; id = 0; done[me] = 1 }
}

init {
	byte i, files;
	atomic { era[1] = 1; era[2] = 1; run Client(1); run Client(2) }
	(done[1] && done[2]);
	atomic {
		i = 1; do :: i <= IDS -> files = files + (file[i] != 0); i++ :: else -> break od;
		assert(files == kept[1] + kept[2]);
		assert(!kept[1] || file[owner[1]] == 1);
		assert(!kept[2] || file[owner[2]] == 2)
	}
}
