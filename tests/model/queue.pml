/*
 * Queues of references (shm/queue.c): does each position get filled and emptied once, in order, whoever dies where?
 *
 * Any to any (default): SENDERS and RECEIVERS make TRIES calls each on a queue of N cells; each may die before any
 * access to shared memory (CRASHES in all), for good.  With -DONE: one sender and one receiver at a time (SENDERS and
 * RECEIVERS are 1: with more the model breaks its own premise), each followed by a successor when it dies, which settles
 * the counter.  What recovery does (empty or fill the row) does not touch the queue and is not modelled.
 *
 * Ghosts: filled and emptied count commits.  A commit at position p asserts that p is the next one, so order, no loss
 * and no doubling follow.  Full and empty must have been true at some moment of the call.
 *
 * Rules that can be removed; each must break, at the default sizes.  -DBUG_ORDER: the other side's counter is read after the
 * cell.  -DBUG_EARLY: a position may be emptied before tail passed it.  -DBUG_FULL: full without looking at head again (not
 * seen with TRIES=1).  With -DONE, -DBUG_NOSETTLE: a successor goes on from the counter as it is; -DBUG_LATE: the counter
 * after the cell.
 * Not modelled: weak memory order; records, and what becomes of the references (spsc.pml); waiting (wait.pml); that a role is
 * one client's only.
 */
#ifdef ONE
#ifndef SENDERS
#define SENDERS 1
#endif
#ifndef RECEIVERS
#define RECEIVERS 1
#endif
#if SENDERS != 1 || RECEIVERS != 1
#error ONE is one sender and one receiver
#endif
#endif
#ifndef N
#define N 2
#endif
#ifndef SENDERS
#define SENDERS 2
#endif
#ifndef RECEIVERS
#define RECEIVERS 2
#endif
#ifndef TRIES
#define TRIES 2
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#define PROCS (SENDERS + RECEIVERS)

byte tail, head;
bit has[N];		/* the cell's value: some reference, or none */
byte stamp[N];
byte crashes;
byte filled, emptied;	/* ghosts */
bit was_full[PROCS], was_empty[PROCS];
byte g;

inline note() {
	g = 0;
	do
	:: g < PROCS ->
		was_full[g] = was_full[g] || (filled - emptied == N);
		was_empty[g] = was_empty[g] || (filled == emptied);
		g++
	:: else -> g = 0; break
	od
}
inline begin() {
	d_step { was_full[id] = (filled - emptied == N); was_empty[id] = (filled == emptied) }
}
#define MAY_DIE :: crashes < CRASHES -> crashes++; goto dead

#ifndef ONE
proctype sender(byte id) {
	byte t, h, s, i; bit v, ok;
	for (i : 1 .. TRIES) {
		begin();
again:		if MAY_DIE :: t = tail fi;
#ifndef BUG_ORDER
		h = head;
#endif
		d_step { v = has[t % N]; s = stamp[t % N] }
#ifdef BUG_ORDER
		h = head;
#endif
		if :: tail != t -> goto again :: else fi;
		if
		:: t - h >= N ->
			if
			:: v ->
#ifdef BUG_FULL
				assert(was_full[id]); goto next
#else
				if
				:: d_step { head == h -> assert(was_full[id]) }; goto next
				:: else -> goto again
				fi
#endif
			:: else ->
				if MAY_DIE :: d_step { if :: head == h -> head = h + 1 :: else fi } fi;
				goto again
			fi
		:: else
		fi;
		if
		:: !v ->
			if
			MAY_DIE
			:: d_step {
				ok = !has[t % N] && stamp[t % N] == s;
				if :: ok -> assert(t == filled); has[t % N] = 1; stamp[t % N]++; filled++; note()
				:: else fi }
			fi;
			if :: !ok -> goto again :: else fi
		:: else
		fi;
		if MAY_DIE :: d_step { if :: tail == t -> tail = t + 1 :: else fi } fi;
		if :: v -> goto again :: else fi;
next:		skip
	}
dead:	skip
}

proctype receiver(byte id) {
	byte t, h, s, i; bit v, ok;
	for (i : 1 .. TRIES) {
		begin();
again:		if MAY_DIE :: h = head fi;
#ifndef BUG_ORDER
		t = tail;
#endif
		d_step { v = has[h % N]; s = stamp[h % N] }
#ifdef BUG_ORDER
		t = tail;
#endif
		if :: head != h -> goto again :: else fi;
		if
		:: !v && t == h ->
			if
			:: d_step { tail == t -> assert(was_empty[id]) }; goto next
			:: else -> goto again
			fi
		:: else
		fi;
		if
		:: v ->
#ifndef BUG_EARLY
			if
			:: t == h ->
				if MAY_DIE :: d_step { if :: tail == t -> tail = t + 1 :: else fi } fi
			:: else
			fi;
#endif
			if
			MAY_DIE
			:: d_step {
				ok = has[h % N] && stamp[h % N] == s;
				if :: ok -> assert(h == emptied); has[h % N] = 0; stamp[h % N]++; emptied++; note()
				:: else fi }
			fi;
			if :: !ok -> goto again :: else fi
		:: else
		fi;
		if MAY_DIE :: d_step { if :: head == h -> head = h + 1 :: else fi } fi;
		if :: !v -> goto again :: else fi;
next:		skip
	}
dead:	skip
}

#else
proctype sender(byte id) {
	byte t, i; bit v;
	i = 0;
	goto settle;
dead:	skip;	/* its successor goes on here */
settle:
#ifndef BUG_NOSETTLE
	if MAY_DIE :: t = tail fi;
	if
	:: t > 0 ->
		if :: has[(t - 1) % N] -> skip
		:: else ->
			if :: head >= t -> skip
			:: else -> if MAY_DIE :: tail = t - 1 fi
			fi
		fi
	:: else
	fi;
#endif
	do
	:: i < TRIES ->
		i++;
		begin();
		t = tail;
		if MAY_DIE :: v = has[t % N]; assert(!v || was_full[id]) fi;
		if
		:: !v ->
#ifndef BUG_LATE
			if MAY_DIE :: tail = t + 1 fi;
#endif
			if MAY_DIE :: d_step { assert(t == filled && !has[t % N]); has[t % N] = 1; filled++; note(); skip } fi;
#ifdef BUG_LATE
			if MAY_DIE :: tail = t + 1 fi;
#endif
			skip
		:: else
		fi
	:: else -> break
	od
}

proctype receiver(byte id) {
	byte h, i; bit v;
	i = 0;
	goto settle;
dead:	skip;
settle:
#ifndef BUG_NOSETTLE
	if MAY_DIE :: h = head fi;
	if
	:: h > 0 ->
		if :: !has[(h - 1) % N] -> skip
		:: else ->
			if :: tail >= h + N -> skip
			:: else -> if MAY_DIE :: head = h - 1 fi
			fi
		fi
	:: else
	fi;
#endif
	do
	:: i < TRIES ->
		i++;
		begin();
		h = head;
		if MAY_DIE :: v = has[h % N]; assert(v || was_empty[id]) fi;
		if
		:: v ->
#ifndef BUG_LATE
			if MAY_DIE :: head = h + 1 fi;
#endif
			if MAY_DIE :: d_step { assert(h == emptied && has[h % N]); has[h % N] = 0; emptied++; note(); skip } fi;
#ifdef BUG_LATE
			if MAY_DIE :: head = h + 1 fi;
#endif
			skip
		:: else
		fi
	:: else -> break
	od
}
#endif

init {
	byte p;
	atomic {
		for (p : 0 .. SENDERS - 1) { run sender(p) }
		for (p : SENDERS .. PROCS - 1) { run receiver(p) }
	}
	_nr_pr == 1;
	assert(head <= tail && tail - head <= N);
}
