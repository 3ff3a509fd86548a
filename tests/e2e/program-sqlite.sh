#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# sqlite3 in the mount: rollback journal and write-ahead log (which maps shared memory), two writers, kill -9.
. "$E2E_LIB/e2e.sh"
need sqlite3
make_pool "$POOL" 256M
mount_pool
db=$MNT/test.db
insert='WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<20000) INSERT INTO t(v) SELECT hex(randomblob(50)) FROM n;'
for mode in DELETE TRUNCATE PERSIST WAL; do
	rm -f "$db"*
	same "journal_mode=$mode" "$(sqlite3 "$db" "PRAGMA journal_mode=$mode;")" "${mode,,}"
	check "$mode: 20 000 rows" sqlite3 "$db" "CREATE TABLE t(k INTEGER PRIMARY KEY, v TEXT); $insert CREATE INDEX i ON t(v);"
	check "$mode: update and delete" sqlite3 "$db" "BEGIN; UPDATE t SET v='x'||k WHERE k%3=0; DELETE FROM t WHERE k%7=0; COMMIT; VACUUM;"
	same "$mode: integrity_check" "$(sqlite3 "$db" 'PRAGMA integrity_check;')" ok
	same "$mode: rows" "$(sqlite3 "$db" 'SELECT count(*) FROM t;')" 17143
done
writer() {
	local i
	for i in $(seq 60); do sqlite3 -cmd '.timeout 20000' "$db" "INSERT INTO t(v) VALUES('$1-$i');" || return 1; done
}
writer a & one=$!
writer b & two=$!
rc=0
wait $one || rc=1
wait $two || rc=1
same "WAL: two writers at once" "$rc" 0
same "WAL: both wrote all of it" "$(sqlite3 "$db" "SELECT count(*) FROM t WHERE v GLOB '[ab]-*';")" 120
mkfifo "$E2E_DIR/statements"
sqlite3 "$db" <"$E2E_DIR/statements" >"$E2E_DIR/said" 2>&1 &
victim=$!
exec 5>"$E2E_DIR/statements"
echo "BEGIN; UPDATE t SET v='lost'; SELECT 'in', count(*) FROM t WHERE v='lost';" >&5
check "killed in a transaction: it has written" wait_until 60 grep -qx 'in|17263' "$E2E_DIR/said"
kill -9 $victim
wait $victim 2>/dev/null
exec 5>&-
same "killed in a transaction: integrity_check" "$(sqlite3 -cmd '.timeout 5000' "$db" 'PRAGMA integrity_check;')" ok
same "killed in a transaction: rolled back" "$(sqlite3 "$db" "SELECT count(*) FROM t WHERE v='lost';")" 0
same "PRAGMA mmap_size: reads through a mapping agree" "$(sqlite3 -cmd 'PRAGMA mmap_size=100000000;' "$db" 'SELECT count(*) FROM t;' | tail -n 1)" 17263
finish
