/*
 * The recoverable compare-and-swap of DESIGN.md, as the models share it.
 *
 * A shared word is {value, stamp}; stamp = {cid, era}.  A transaction of client
 * `me`: seal a record, publish the stamp it is about to overwrite, CAS, apply,
 * bump.  E[i].seen[j] is the highest era of j that i has overwritten (i's own
 * era on the diagonal).  Whoever recovers `me` runs the same inlines as `me`.
 *
 * A client may die wherever CR stands.  Steps that no other process can see are
 * merged with the visible step before them (atomic), their CR included, so the
 * merge hides no crash.
 *
 * Left out everywhere: weak memory order (every step is sequentially
 * consistent), overflow of counts and eras, liveness (a lost CAS retries).
 */
#ifndef N
#define N 2                     /* clients */
#endif
#ifndef CRASHES
#define CRASHES 2               /* deaths in all, recoverers included */
#endif

#define LINK 9                  /* a cid that matches no client: the stamp holds a list link */

typedef Word { byte v; byte cid; byte era };
typedef Row { byte seen[N+1] };
/* only the sealing era makes a record count; recovery never reads another one */
typedef Redo { byte op; byte slot; byte o; byte next; byte era; bit phase };

Row E[N+1];
Redo redo[N+1];
byte crashes = 0;

#if CRASHES == 0
#define CR skip
#else
#define CR if :: skip :: (crashes < CRASHES) -> atomic { crashes++; goto crash } fi
#endif

#define ERA E[me].seen[me]
#define SEALED (redo[me].op != 0 && redo[me].era == ERA)

/* rule 2 */
#ifdef BUG_2_NO_PUBLISH
#define PUBLISH(c,e) skip
#else
#define PUBLISH(c,e) if :: (c != me && c != 0 && c != LINK && e > E[me].seen[c]) -> E[me].seen[c] = e :: else fi
#endif

/* fill, then seal.  The fill is torn in two: harmless as long as no record of this era is sealed (rules 1 and 3) */
inline seal(OP, SL, OB, NX) {
	d_step { redo[me].op = OP; redo[me].phase = 0 }
	CR;
	d_step { redo[me].slot = SL; redo[me].o = OB; redo[me].next = NX; redo[me].era = ERA }
}

/* ends the transaction.  Clearing a record that no longer counts only keeps the state space small */
inline bump() {
	d_step { ERA++; redo[me].op = 0; redo[me].slot = 0; redo[me].o = 0; redo[me].next = 0; redo[me].phase = 0; redo[me].era = 0 }
}

inline load(W) { d_step { wv = W.v; wc = W.cid; we = W.era } }
inline cas(W, V) {
	d_step {
		ok = (W.v == wv && W.cid == wc && W.era == we);
		if :: ok -> W.v = V; W.cid = me; W.era = ERA :: else fi
	}
}

/* did the sealed record's CAS on the word with stamp (C, X) land? */
inline by_rows() {
	k = 1;
	do
	:: k <= N -> if :: k != me && E[k].seen[me] >= redo[me].era -> ok = 1 :: else fi; k++
	:: else -> break
	od;
	k = 0
}
#if defined(BUG_LANDED_WORD_ONLY)
#define landed(C, X) d_step { ok = (C == me && X == redo[me].era) }
#elif defined(BUG_LANDED_ROWS_ONLY)
#define landed(C, X) d_step { ok = 0; by_rows() }
#elif defined(LANDED_IN_STEPS)
/* the word, then the rows: who replaces the stamp in between has noted it before */
#define landed(C, X) ok = (C == me && X == redo[me].era); d_step { by_rows() }
#elif defined(BUG_LANDED_ROWS_FIRST)
#define landed(C, X) d_step { ok = 0; by_rows() } ok = ok || (C == me && X == redo[me].era)
#else
#define landed(C, X) d_step { ok = (C == me && X == redo[me].era); by_rows() }
#endif

#define WORD_LOCALS byte wv, wc, we, k; bit ok
