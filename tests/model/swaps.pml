/*
 * Exchanges, renames and removals of the same names, several at once.
 *
 * exchange.pml has one exchange and what others may do to its names; here N clients do one operation each, OP1 to OP3, on
 * the names 1 to 3 of one directory, which are files' (with EMPTY_3 nothing's): X12 exchanges 1 and 2, R12 renames 1 to 2, T1
 * takes 1 away, ANY is any of these.  Stands for the same functions, and those of names.pml, with each transaction one
 * step, too.  Up to CRASHES clients die between any two; whoever recovers one goes on with settle().
 *
 * Proves: a file that nobody took a name from, nor renamed anything over, has a name in the end; counts of names and
 * entries are right.  Of two clients' files none has a second name; with three undo does not mend all (README.md).
 *
 * Left out: what exchange.pml leaves out, and rmdir.
 */
#ifndef N
#define N 2
#endif
#ifndef CRASHES
#define CRASHES 0
#endif
#ifndef OP1
#define OP1 X12
#endif
#ifndef OP2
#define OP2 ANY
#endif
#ifndef OP3
#define OP3 ANY
#endif
#define ANY 0
#define X12 112
#define X13 113
#define X21 121
#define X23 123
#define R23 23
#define R31 31
#define T1 10
#define FILES 3

byte edge[4 + N];               /* the names, and behind them own names, one a client */
byte what[4 + 2 * N];           /* which file an entry names; the first three are there from the beginning */
byte entries, names[FILES+1];   /* the counts */
typedef Slot {
	byte owed_entries, owed_names[FILES+1];
	bit intent, exchange;
	byte from, want, to, replaced;
};
Slot slot[N+1];
bit gone[FILES+1];              /* somebody took a name of it, or renamed over one */
byte crashes;
bit done[N+1];

#define S slot[me]
#define NEW (2 + 2 * me)        /* the entry for the new name; an exchange's other one */
#define OTHER (3 + 2 * me)
#define OWN (3 + me)

#if CRASHES == 0
#define CR skip
#else
#define CR if :: skip :: crashes < CRASHES -> atomic { crashes++; goto crash } fi
#endif

inline put_back(e, x) {
	if :: S.owed_entries == 0 -> atomic { CR; entries++; S.owed_entries++ } :: else fi;
	atomic {
		CR;
		ok = (edge[x] == 0);
		if :: ok -> edge[x] = e; S.owed_entries--; S.owed_names[what[e]]--; S.intent = 0 :: else fi
	}
}

inline put_displaced() {
	ok = 0;
#ifdef BUG_DISPLACED_DROPPED
	CR; S.intent = 0
#else
	if
	:: S.replaced != 0 ->
	   put_back(OTHER, S.from);
	   if :: !ok -> put_back(S.replaced, S.to) :: else fi
	:: else
	fi;
	if :: !ok -> CR; S.replaced = 0; put_back(OTHER, OWN); assert(ok) :: else fi
#endif
}

inline settle() {
	do
	:: S.intent && S.exchange && S.replaced == 0 -> put_displaced()
	:: S.intent && (!S.exchange || S.replaced != 0) ->
	   atomic {
		CR;
		ok = (edge[S.from] == S.want);
		if
		:: ok && S.exchange -> edge[S.from] = OTHER; S.owed_names[what[S.want]]++; S.owed_names[what[OTHER]]--; S.intent = 0
		:: ok && !S.exchange -> edge[S.from] = 0; S.owed_names[what[S.want]]++; S.owed_entries++; S.intent = 0
		:: else
		fi
	   }
	   if
	   :: !ok ->
	      atomic {
		CR;
		ok = (edge[S.to] == NEW);
		if
		:: ok ->
		   edge[S.to] = S.replaced; S.owed_names[what[NEW]]++; S.intent = 0;
		   if :: S.replaced != 0 -> S.owed_names[what[S.replaced]]-- :: else -> S.owed_entries++ fi
		:: else
		fi
	      }
	      if
	      :: !ok && S.exchange -> put_displaced()
	      :: !ok && !S.exchange -> CR; S.intent = 0
	      :: else
	      fi
	   :: else
	   fi
	:: else -> break
	od;
	do
	:: S.owed_entries > 0 -> atomic { CR; assert(entries > 0); entries--; S.owed_entries-- }
	:: S.owed_entries == 0 && k <= FILES && S.owed_names[k] > 0 ->
	   atomic { CR; assert(names[k] > 0); names[k]--; S.owed_names[k]-- }
	:: S.owed_entries == 0 && k <= FILES && S.owed_names[k] == 0 -> k++
	:: else -> break
	od
}

proctype Client(byte me; byte op) {
	byte f, t, o, n, k; bit ok;
	if
	:: op == ANY ->
	   atomic {
		if :: f = 1; t = 2 :: f = 2; t = 3 :: f = 3; t = 1 :: f = 2; t = 1 :: f = 3; t = 2 :: f = 1; t = 3 fi;
		if :: op = 100 + 10 * f + t :: op = 10 * f + t :: f < t || t == 1 -> op = 10 * f fi
	   }
	:: else
	fi;
	/* both names as they were at one moment */
	atomic {
		f = (op / 10) % 10; t = op % 10; o = edge[f]; n = edge[t];
		if :: o == 0 || (op > 100 && n == 0) || (t != 0 && n != 0 && what[o] == what[n]) -> goto out :: else fi
	}
	if
	:: t == 0 ->
	   atomic { if :: edge[f] == o -> edge[f] = 0; gone[what[o]] = 1 :: else -> goto out fi }
	   atomic { names[what[o]]--; S.owed_entries = 1 }
	   goto second
	:: else
	fi;
	atomic { CR; names[what[o]]++; S.owed_names[what[o]]++ }
	if :: n == 0 || op > 100 -> atomic { CR; entries++; S.owed_entries++ } :: else fi;
	atomic {
		CR;
		if
		:: edge[t] == n ->
		   what[NEW] = what[o]; what[OTHER] = what[n];
		   edge[t] = NEW; S.intent = 1; S.exchange = (op > 100); S.from = f; S.to = t; S.want = o; S.replaced = n;
		   S.owed_names[what[o]]--;
		   if
		   :: n != 0 -> S.owed_names[what[n]]++; if :: op < 100 -> gone[what[n]] = 1 :: else fi
		   :: else -> S.owed_entries--
		   fi
		:: else
		fi
	}
	goto second;
crash:	skip;
second:	k = 1; settle();
out:	atomic { op = 0; f = 0; t = 0; o = 0; n = 0; k = 0; ok = 0; done[me] = 1 }
}

init {
	byte i, filled, has[FILES+1];
	atomic {
		i = 1;
		do
#ifdef EMPTY_3
		:: i < 3 ->
#else
		:: i <= 3 ->
#endif
		   edge[i] = i; what[i] = i; names[i] = 1; entries++; i++
		:: else -> break
		od;
#ifdef EMPTY_3
		gone[3] = 1;
#endif
		run Client(1, OP1); run Client(2, OP2);
#if N == 3
		run Client(3, OP3)
#endif
	}
	(done[1] && done[2] && (N == 2 || done[N]));
	atomic {
		i = 1;
		do
		:: i < 4 + N -> if :: edge[i] != 0 -> filled++; has[what[edge[i]]]++ :: else fi; i++
		:: else -> break
		od;
		assert(entries == filled);
		i = 1;
		do
		:: i <= FILES ->
		   assert(names[i] == has[i]);
		   assert(gone[i] || has[i] > 0);
#if N == 2
		   assert(has[i] <= 1);
#endif
		   i++
		:: else -> break
		od
	}
}
