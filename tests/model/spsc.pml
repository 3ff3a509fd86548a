/*
 * One to one queues: plain stores into cells that others read, with the record of an exchange.
 *
 * Stands for send_one(), receive_one(), settle_sender(), settle_receiver(), exchange_record() of shm/queue.c, era_store() of
 * shm/era.h, cell_apply_exchange() of shm/cell.c, finish_record() of shm/recover.c.
 *
 * Client 1 sends OBJECTS references, client 2 receives, over CAP cells; whichever dies (CRASHES times in all) is recovered, which
 * drops what is in its row, and its slot's next owner takes the role, settles the counter and goes on.
 *
 * Proves: each reference is in one place, or was dropped once; they are received in order.
 *
 * queue.pml has the counters by themselves, and the rules about them.  Left out: that a role is one client's only; counts of
 * references (era.pml); exposing.
 */
#include "core.pml"
#ifndef OBJECTS
#define OBJECTS 3
#endif
#ifndef CAP
#define CAP 2
#endif

#define EXCHANGE 1

Word cell[CAP];
byte head, tail;
byte row[3];                    /* the reference in the client's hand */
byte gone[OBJECTS+1];           /* how often a reference was dropped, by who received it or by recovery */
byte last;                      /* received last */
bit done[3];

#ifdef BUG_2_STORE_NO_PUBLISH
#define STORE_PUBLISH skip
#else
#define STORE_PUBLISH PUBLISH(wc, we)
#endif

inline drop_row() { d_step { if :: row[me] != 0 -> gone[row[me]]++; row[me] = 0 :: else fi } }

/* put V into the cell x, and INTO into the row; the counter is raised before that */
inline exchange(V, INTO, COUNTER) {
	CR; seal(EXCHANGE, x, INTO, 0);
	CR; COUNTER++;
	CR; STORE_PUBLISH;
	CR; d_step { if :: me == 2 -> assert(wv > last); last = wv :: else fi; cell[x].v = V; cell[x].cid = me; cell[x].era = ERA }
	CR; row[me] = redo[me].o;
	CR; bump()
}

inline settle_sender() {
	if
	:: tail > 0 && cell[(tail - 1) % CAP].v == 0 ->
	   CR;
	   if :: head < tail -> CR; tail-- :: else fi
	:: else
	fi
}

inline settle_receiver() {
	if
	:: head > 0 && cell[(head - 1) % CAP].v != 0 ->
	   CR;
	   if :: tail < head + CAP -> CR; head-- :: else fi
	:: else
	fi
}

#define FORGET wv = 0; wc = 0; we = 0; ok = 0; k = 0; x = 0

proctype Client(byte me) {
	WORD_LOCALS; byte x, next;
life:	if :: me == 1 -> settle_sender() :: else -> settle_receiver() fi;
	do
	:: me == 1 && next < OBJECTS ->
	   next++; row[1] = next;
	   x = tail % CAP; load(cell[x]);
	   if
	   :: wv == 0 -> exchange(row[1], 0, tail)
	   :: else -> drop_row()        /* full */
	   fi;
	   atomic { FORGET }
	:: me == 2 ->
	   x = head % CAP; load(cell[x]);
	   if
	   :: wv != 0 ->
	      exchange(0, wv, head);
	      drop_row()
	   :: else -> atomic { (cell[x].v != 0 || done[1]); if :: cell[x].v == 0 -> goto out :: else fi }
	   fi;
	   atomic { FORGET }
	:: me == 1 && next == OBJECTS -> break
	od;
	goto out;

crash:	atomic { FORGET }
	if
	:: SEALED ->
	   x = redo[me].slot;
	   landed(cell[x].cid, cell[x].era);
	   if :: ok -> CR; row[me] = redo[me].o :: else fi
	:: else
	fi;
	CR; bump();
	drop_row();
	atomic { FORGET }
	goto life;
out:	atomic { FORGET; next = 0; done[me] = 1 }
}

init {
	byte i;
	atomic { E[1].seen[1] = 1; E[2].seen[2] = 1; run Client(1); run Client(2) }
	(done[1] && done[2]);
	atomic {
		i = 1;
		do
		:: i <= OBJECTS -> assert(gone[i] == 1); i++
		:: else -> break
		od;
		assert(head == tail)
	}
}
