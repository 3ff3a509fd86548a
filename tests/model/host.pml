/*
 * failure_domain=host: a dead machine takes its dirty cache lines with it.
 *
 * One object, one cell, each client on a machine of its own.  A store dirties a
 * line; when its machine dies, each dirty line by itself was either evicted in
 * time (it survives) or is lost (the line shows what memory held before).  A
 * shared word is coherent: another machine's access writes it back first.
 * Recovery runs on one more machine, with its own dirty lines, and may die too.
 *
 * Proves: with one write-back before each next step that relies on it (record,
 * eras seen, the CAS word, the root, the client's own era) counts come out
 * right; and each of these write-backs is needed (BUG_LOSE_...).
 *
 * Left out: torn lines (the record is one line, its era stored last), memory
 * that is not coherent between machines, allocation.
 */
#include "core.pml"
#ifndef OPS
#define OPS 2                   /* operations per client */
#endif
#define FREE 0
#define LIVE 1
#define DEAD 2
#define ATTACH 1
#define DETACH 2
#define SWAP 3

/* what memory holds, beside what the caches show; dirty = they differ, or may */
typedef Header { byte cid; byte era; byte cnt; byte st };
typedef Lines { bit record, row, era, root };
Header H, H_mem;
Word cell, cell_mem;
byte H_dirty = 0, cell_dirty = 0;       /* whose cache holds it dirty */
Lines dirty[N+1];
Redo redo_mem[N+1];
Row E_mem[N+1];
byte root[N+1], root_mem[N+1];
bit done[N+1];

#define COPY_REDO(A, B) A[me].op = B[me].op; A[me].o = B[me].o; A[me].era = B[me].era; A[me].phase = B[me].phase
#define OTHER(i) (3 - (i))              /* N = 2 */

inline writeback_H() { d_step { H_mem.cid = H.cid; H_mem.era = H.era; H_mem.cnt = H.cnt; H_mem.st = H.st; H_dirty = 0 } }
inline writeback_cell() { d_step { cell_mem.v = cell.v; cell_mem.cid = cell.cid; cell_mem.era = cell.era; cell_dirty = 0 } }
inline writeback_record() { d_step { COPY_REDO(redo_mem, redo); dirty[me].record = 0 } }
inline writeback_row(i) { d_step { E_mem[i].seen[OTHER(i)] = E[i].seen[OTHER(i)]; dirty[i].row = 0 } }
inline writeback_era() { d_step { E_mem[me].seen[me] = ERA; dirty[me].era = 0 } }
inline writeback_root() { d_step { root_mem[me] = root[me]; dirty[me].root = 0 } }

/* the write-backs the protocol asks for */
#ifdef BUG_LOSE_RECORD
#define KEEP_RECORD skip
#else
#define KEEP_RECORD CR; writeback_record()
#endif
#ifdef BUG_LOSE_PHASE
#define KEEP_PHASE skip
#else
#define KEEP_PHASE CR; writeback_record()
#endif
#ifdef BUG_LOSE_ROW
#define KEEP_ROW skip
#else
#define KEEP_ROW CR; writeback_row(me)
#endif
#ifdef BUG_LOSE_WORD
#define KEEP_H skip
#define KEEP_CELL skip
#else
#define KEEP_H CR; if :: H_dirty == me -> writeback_H() :: else fi
#define KEEP_CELL CR; if :: cell_dirty == me -> writeback_cell() :: else fi
#endif
#ifdef BUG_LOSE_ROOT
#define KEEP_ROOT skip
#else
#define KEEP_ROOT CR; writeback_root()
#endif
#ifdef BUG_LOSE_ERA
#define KEEP_ERA skip
#else
#define KEEP_ERA CR; writeback_era()
#endif

/* another machine's access to a dirty shared word */
#define SNOOP_H if :: H_dirty != 0 && H_dirty != me -> writeback_H() :: else fi
#define SNOOP_CELL if :: cell_dirty != 0 && cell_dirty != me -> writeback_cell() :: else fi

inline seal_h(OP, OB) {
	CR; d_step { redo[me].op = OP; redo[me].o = OB; redo[me].phase = 0; redo[me].era = ERA; dirty[me].record = 1 }
	KEEP_RECORD
}
inline publish_h(C, X) {
	if
	:: (C == OTHER(me) && X > E[me].seen[C]) -> CR; d_step { E[me].seen[C] = X; dirty[me].row = 1 } KEEP_ROW
	:: else
	fi
}
inline set_root(V) { CR; d_step { root[me] = V; dirty[me].root = 1 } KEEP_ROOT }
inline bump_h() { CR; d_step { ERA++; dirty[me].era = 1 } KEEP_ERA }

inline hload() { atomic { SNOOP_H; d_step { hc = H.cid; he = H.era; hn = H.cnt; hs = H.st } } }
inline hcas(CNT) {
	SNOOP_H;
	d_step {
		ok = (H.cid == hc && H.era == he && H.cnt == hn);
		if :: ok -> H.cid = me; H.era = ERA; H.cnt = CNT; H_dirty = me; if :: CNT == 0 -> H.st = DEAD :: else fi :: else fi
	}
}

inline acquire() {
	do
	:: atomic { SNOOP_CELL; load(cell) }
	   if
	   :: wv == 0 -> if :: redo[me].era == ERA -> bump_h() :: else fi; break
	   :: else ->
	      CR; hload();
	      CR; atomic { SNOOP_CELL; ok = (cell.v == wv && cell.cid == wc && cell.era == we) }
	      if
	      :: ok ->
		 assert(hs == LIVE && hn > 0);
		 atomic { publish_h(hc, he); seal_h(ATTACH, 1) }
		 atomic { CR; hcas(hn + 1); if :: ok -> KEEP_H; set_root(1); bump_h() :: else fi }
		 if :: ok -> break :: else fi
	      :: else
	      fi
	   fi
	od
}

inline swap() {
	do
	:: atomic { SNOOP_CELL; load(cell) }
	   atomic { publish_h(wc, we); seal_h(SWAP, wv) }
	   atomic {
		CR; SNOOP_CELL; cas(cell, root[me]);
		if :: ok -> cell_dirty = me; KEEP_CELL; set_root(wv); bump_h() :: else fi
	   }
	   if :: ok -> break :: else fi
	od
}

/* my count reached zero: note it, then let the header go, then the root; may be repeated */
inline reclaim() {
	CR; d_step { redo[me].phase = 1; dirty[me].record = 1 } KEEP_PHASE;
	if :: H.st == DEAD -> CR; d_step { H.st = FREE; H.cid = LINK; H.era = 0; H_dirty = me } :: else fi;
	KEEP_H;
	set_root(0)
}

inline detach() {
	do
	:: hload(); assert(hs == LIVE && hn > 0);
	   atomic { publish_h(hc, he); seal_h(DETACH, 1) }
	   atomic {
		CR; hcas(hn - 1);
		if
		:: ok && hn > 1 -> KEEP_H; set_root(0); bump_h()
		:: ok && hn == 1 -> KEEP_H; reclaim(); bump_h()
		:: else
		fi
	   }
	   if :: ok -> break :: else fi
	od
}

/* each dirty line was evicted in time, or is lost */
inline machine_dies() {
	if :: dirty[me].record -> if :: writeback_record() :: COPY_REDO(redo, redo_mem); dirty[me].record = 0 fi :: else fi;
	if :: dirty[me].row -> if :: writeback_row(me) :: E[me].seen[OTHER(me)] = E_mem[me].seen[OTHER(me)]; dirty[me].row = 0 fi :: else fi;
	if :: dirty[me].era -> if :: writeback_era() :: ERA = E_mem[me].seen[me]; dirty[me].era = 0 fi :: else fi;
	if :: dirty[me].root -> if :: writeback_root() :: root[me] = root_mem[me]; dirty[me].root = 0 fi :: else fi;
	if :: H_dirty == me -> if :: writeback_H() :: H.cid = H_mem.cid; H.era = H_mem.era; H.cnt = H_mem.cnt; H.st = H_mem.st; H_dirty = 0 fi :: else fi;
	if :: cell_dirty == me -> if :: writeback_cell() :: cell.v = cell_mem.v; cell.cid = cell_mem.cid; cell.era = cell_mem.era; cell_dirty = 0 fi :: else fi
}

#define FORGET wv = 0; wc = 0; we = 0; ok = 0; hc = 0; he = 0; hn = 0; hs = 0; k = 0

proctype Client(byte me) {
	WORD_LOCALS; byte hc, he, hn, hs, n;
	n = OPS;
	do
	:: n > 0 ->
	   n--;
	   if
	   :: root[me] == 0 -> acquire()
	   :: root[me] != 0 -> detach()
	   :: true -> swap()
	   fi;
	   atomic { FORGET }
	:: else -> break
	od;
	goto drop;

crash:	atomic { FORGET; n = 0; machine_dies() }
	if
	:: redo[me].op != 0 && redo[me].era == ERA ->
	   if :: dirty[OTHER(me)].row -> writeback_row(OTHER(me)) :: else fi;       /* landed() reads it */
	   if
	   :: redo[me].op == SWAP ->
	      atomic { SNOOP_CELL; landed(cell.cid, cell.era) }
	      if :: ok -> KEEP_CELL; set_root(redo[me].o) :: else fi
	   :: else ->
	      atomic { SNOOP_H; landed(H.cid, H.era) }
	      if
	      :: redo[me].op == ATTACH && ok -> KEEP_H; set_root(1)
	      :: redo[me].op == ATTACH && !ok
	      :: redo[me].op == DETACH && (redo[me].phase || (H.cid == me && H.era == redo[me].era && H.cnt == 0)) -> KEEP_H; reclaim()
	      :: else -> if :: ok -> KEEP_H; set_root(0) :: else fi
	      fi
	   fi
	:: else
	fi;
	bump_h();
drop:	if :: root[me] != 0 -> detach() :: else fi;
	atomic { FORGET; done[me] = 1 }
}

init {
	atomic {
		E[1].seen[1] = 1; E[2].seen[2] = 1; E_mem[1].seen[1] = 1; E_mem[2].seen[2] = 1;
		H.st = LIVE; H.cnt = 1; H_mem.st = LIVE; H_mem.cnt = 1; cell.v = 1; cell_mem.v = 1;
		run Client(1); run Client(2)
	}
	(done[1] && done[2]);
	atomic {
		assert(root[1] == 0 && root[2] == 0);
		assert(cell.v == 1 || (H.st == FREE && H.cnt == 0));
		assert(cell.v == 0 || (H.st == LIVE && H.cnt == 1))
	}
}
