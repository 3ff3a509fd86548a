/*
 * Freed memory is zeroed before it is another client's.
 *
 * Stands for scrub_adopted(), pop(), push_remote(), page_bury(), page_collect() of shm/page_remote.c, run_rebuild(),
 * page_adopted(), page_retire() of shm/page_adopt.c.
 *
 * One block, in one segment, which one of two clients owns or nobody.  Each client makes OPS steps in each of its lives, each
 * any one of: allocate the block, give the other a reference, drop its own, collect, adopt the segment.  Then it leaves, or it
 * dies before, at any step (CRASHES times); who then acts for it drops what it had, and its slot is claimed anew (LIVES times in
 * all) by another, who is to see nothing of what the one before wrote.  A client may get back what it wrote itself.
 *
 * Proves: a block that is allocated has no bytes in it that were left by another client's object.  What others wrote into a
 * client's own objects, by references that it gave them, is its own.
 *
 * Left out: counts and the dead list as such (era.pml, reclaim.pml), the looks at an orphan (looks.pml): each transaction is
 * one step; segments that go back, which are zeroed or punched whole (spans.pml); the list's link, 8 bytes that a collected
 * block has in it; spans.
 */
#ifndef OPS
#define OPS 3
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef LIVES
#define LIVES 1
#endif

#define FREE 0
#define LIVE 1
#define DEAD 2
#define LIMBO 3
#define ORPHAN 0

byte owner = 1;                 /* of the segment */
bit adopted;                    /* its flag PAGE_ADOPTED */
byte state;                     /* of the block */
byte bytes;                     /* who allocated it when it was written last, 0: zeros */
bit holds[3];                   /* a client's reference */
bit buried[3];                  /* it is on that client's dead list */
bit pushed;                     /* it is on the segment's remote list */
byte who[3];                    /* which life each client is in, counted over both */
byte lives, crashes;
bit done[3];

#if CRASHES == 0
#define CR skip
#else
#define CR if :: skip :: crashes < CRASHES -> atomic { crashes++; goto crash } fi
#endif

inline collect() {
	atomic { CR; if :: owner == me && pushed -> assert(state == LIMBO); state = FREE; pushed = 0 :: else fi }
}

/* what the former owner left in free blocks is not the new one's to read; who acts for another leaves that to the next */
inline adopt() {
	atomic { CR; ok = (owner == ORPHAN); if :: ok -> owner = me; adopted = 0 :: else fi }
	if
	:: ok && !acting ->
	   collect();
#ifndef BUG_ADOPTER_LEAVES_BYTES
	   CR;
	   if :: state == FREE -> bytes = 0 :: else fi;
#endif
	   CR; adopted = 1
	:: else
	fi
}

inline bury() {
	if :: state == DEAD && owner == ORPHAN -> adopt() :: else fi;
	if
	:: state == DEAD && owner == me ->
#ifndef BUG_POP_LEAVES_BYTES
	   if :: adopted && !acting -> CR; bytes = 0 :: else fi;
#endif
	   atomic { CR; state = FREE; buried[me] = 0 }
	:: else ->
	   /* another's; or a push that a crash cut short */
#if defined(BUG_LIMBO_BEFORE_ZEROS)
	   if :: state == DEAD -> CR; state = LIMBO; CR; bytes = 0 :: else fi;
#elif defined(BUG_PUSH_LEAVES_BYTES)
	   if :: state == DEAD -> CR; state = LIMBO :: else fi;
#else
	   if :: state == DEAD -> CR; bytes = 0; CR; state = LIMBO :: else fi;
#endif
	   atomic { CR; pushed = 1; buried[me] = 0 }
	   /* who pushed looks: if nobody owns it, it is adopted */
	   if :: owner == ORPHAN -> adopt() :: else fi
	fi
}

inline drop() {
	atomic {
		CR;
		if
		:: holds[me] ->
		   holds[me] = 0;
		   if :: !holds[1] && !holds[2] -> state = DEAD; buried[me] = 1 :: else fi
		:: else
		fi
	}
	if :: buried[me] -> bury() :: else fi
}

proctype Client(byte me) {
	byte n; bit ok, acting;
life:	do
	:: n < OPS && owner == me && state == FREE && !holds[me] ->
	   atomic {
		CR;
		if
		:: state == FREE && owner == me ->
		   assert(bytes == 0 || bytes == who[me]);
		   bytes = who[me]; state = LIVE; holds[me] = 1
		:: else
		fi
	   }
	   n++
	:: n < OPS && holds[me] -> atomic { CR; if :: !done[3 - me] -> holds[3 - me] = 1 :: else fi } n++
	:: n < OPS && holds[me] -> drop(); n++
	:: n < OPS && owner == me && pushed -> collect(); n++
	:: n < OPS && owner == ORPHAN -> adopt(); n++
	:: true -> break
	od;
	goto retire;

crash:	skip;
retire:	atomic { acting = 1; n = OPS; ok = 0 }
	/* it may have died before it looked (looks.pml) */
	if :: pushed && owner == ORPHAN -> adopt() :: else fi;
	if :: buried[me] -> bury() :: else fi;
	drop();
	do
	:: owner == me ->
	   collect();
	   atomic { CR; owner = ORPHAN; adopted = 0 }
	   /* who orphaned looks */
	   if :: pushed -> adopt() :: else fi
	:: else -> break
	od;
	atomic {
		if
		:: holds[me] -> goto retire     /* it was given one meanwhile */
		:: else
		fi;
		ok = 0; acting = 0; n = 0;
		if
		:: lives < LIVES -> lives++; who[me] = 2 + lives; goto life
		:: else -> done[me] = 1
		fi
	}
}

init {
	atomic { who[1] = 1; who[2] = 2; run Client(1); run Client(2) }
	(done[1] && done[2]);
	assert(state == FREE && !pushed && owner == ORPHAN)
}
