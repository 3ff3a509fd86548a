/*
 * Waiting at a queue: who sleeps is woken by the step that he waits for.
 *
 * Stands for queue_announce(), queue_sleep(), wake(), wake_slow() of shm/queue.c and wait_for() of shm/api_queue.c.
 *
 * SENDERS and RECEIVERS make SENDS and RECEIVES steps each on a queue of CAP places, of which only the number of filled
 * ones is left (queue.pml); each side waits until it can make its step.  Up to CRASHES of them die at any step, for good.
 *
 * A step and the look at `waiting` behind it are a store and a load of another word, which a processor may exchange.  So
 * the look may be EARLY, before the step.  A sleeper's membarrier(2) is a fence in every other process: what was looked
 * at early before it must be looked at anew.  With -DFENCED (no membarrier here) who makes a step has a fence of his own,
 * so no look is early, and the sleeper has only his own fence.  All else is in order.
 *
 * Proves: as long as nobody died, nobody who can make his step sleeps once all others have come to rest: no sleep relies
 * on its time-out.  After a death it may: whoever dies between his step and the wake-up wakes nobody.  Time-outs that
 * would be in vain are left out, for they only begin the round anew.
 *
 * Left out: that one first polls; recovering the dead from time to time; the role of a queue that is one to one, and its
 * being a dead client's; that a call ends at its caller's time-out.
 */
#ifndef SENDERS
#define SENDERS 1
#endif
#ifndef RECEIVERS
#define RECEIVERS 2
#endif
#ifndef SENDS
#define SENDS 2
#endif
#ifndef RECEIVES
#define RECEIVES 1
#endif
#ifndef CAP
#define CAP 1
#endif
#ifndef CRASHES
#define CRASHES 0
#endif
#define PROCS (SENDERS + RECEIVERS)
#define SEND 0                  /* the sides */
#define RECEIVE 1
#define SIDE(p) ((p < SENDERS) -> SEND : RECEIVE)
#define CAN(s) ((s == SEND && filled < CAP) || (s == RECEIVE && filled > 0))

typedef Waiting { bit waiting; byte futex };
Waiting at[2];
byte filled;
bit asleep[PROCS];
bit early[PROCS], saw[PROCS];   /* he has looked at `waiting` of the other side before his step, and what he saw */
byte deaths;
byte g;

#if CRASHES == 0
#define CR skip
#else
#define CR if :: skip :: deaths < CRASHES -> atomic { deaths++; early[id] = 0; saw[id] = 0; goto out } fi
#endif

#if defined(FENCED) && !defined(BUG_WAKER_UNFENCED)
#define LOOK_EARLY skip
#else
#define LOOK_EARLY if :: CAN(s) -> atomic { early[id] = 1; saw[id] = at[1 - s].waiting } :: skip fi
#endif

#if defined(FENCED) || defined(BUG_NO_MEMBARRIER)
#define MEMBARRIER skip
#else
#define MEMBARRIER d_step { g = 0; do :: g < PROCS -> early[g] = 0; saw[g] = 0; g++ :: else -> g = 0; break od }
#endif

/* ok: the step is made */
inline step() {
	LOOK_EARLY;
	CR;
	atomic {
		ok = CAN(s);
		if
		:: ok && s == SEND -> filled++
		:: ok && s == RECEIVE -> filled--
		:: else -> early[id] = 0; saw[id] = 0
		fi
	}
}

inline wake_all(o) {
	d_step {
		g = 0;
		do
		:: g < PROCS && SIDE(g) == o && asleep[g] ->
		   asleep[g] = 0;
#ifdef BUG_ONE_WOKEN
		   g = PROCS
#else
		   g++
#endif
		:: g < PROCS && !(SIDE(g) == o && asleep[g]) -> g++
		:: else -> g = 0; break
		od
	}
}

/* behind a step, those on side o that wait for it */
inline wake(o) {
	CR;
	atomic { ok = (early[id] -> saw[id] : at[o].waiting); early[id] = 0; saw[id] = 0 }
	if
#ifdef BUG_ROOM_WAKES_NOBODY
	:: ok && o == RECEIVE ->
#else
	:: ok ->
#endif
#ifndef BUG_CLEARED_LAST
	   CR; at[o].waiting = 0;
#endif
#ifndef BUG_NOT_COUNTED
	   CR; at[o].futex++;
#endif
	   CR; wake_all(o);
#ifdef BUG_CLEARED_LAST
	   CR; at[o].waiting = 0
#endif
	:: else
	fi
}

proctype Client(byte id; byte s; byte left) {
	byte word; bit ok;
	do
	:: left > 0 ->
	   step();
	   do
	   :: ok -> break
	   :: else ->
	      /* announce, look again, sleep */
#if defined(BUG_WORD_READ_LATE)
	      CR; at[s].waiting = 1; CR; word = at[s].futex; MEMBARRIER; step();
#elif defined(BUG_NO_SECOND_LOOK)
	      CR; word = at[s].futex; CR; at[s].waiting = 1; MEMBARRIER;
#elif defined(BUG_SLEEPER_UNFENCED)
	      CR; word = at[s].futex; step(); if :: !ok -> at[s].waiting = 1 :: else fi;
#else
	      CR; word = at[s].futex; CR; at[s].waiting = 1; CR; MEMBARRIER; step();
#endif
	      if
	      :: !ok ->
		 CR;
		 /* the kernel's own: asleep if the word is still the same */
		 atomic { asleep[id] = (at[s].futex == word); word = 0 }
endsleep:	 if
		 :: !asleep[id]
#ifndef BUG_NO_TIMEOUT
		 :: deaths > 0 && CAN(s) -> asleep[id] = 0
#endif
		 fi;
		 step()
	      :: else
	      fi
	   od;
	   wake(1 - s);
	   atomic { left--; ok = 0; word = 0 }
	:: else -> break
	od;
out:	skip
}

init {
	byte p;
	atomic {
		p = 0;
		do
		:: p < PROCS -> run Client(p, SIDE(p), (SIDE(p) == SEND -> SENDS : RECEIVES)); p++
		:: else -> p = 0; break
		od
	}
	/* when nobody can do anything any more */
	atomic {
		(timeout);
		do
		:: p < PROCS -> assert(!asleep[p] || !CAN(SIDE(p))); p++
		:: else -> break
		od
	}
	/* who sleeps now waits for what nobody will bring: that is no dead end of the model (endsleep) */
}
