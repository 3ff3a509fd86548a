#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# git: clone into the mount, commit, branch, garbage-collect, check; a clone out of it.
. "$E2E_LIB/e2e.sh"
need git
make_pool "$POOL" 512M
mount_pool
export HOME=$E2E_DIR GIT_CONFIG_NOSYSTEM=1
git config --global user.name e2e
git config --global user.email e2e@example.invalid
git config --global safe.directory '*'
git config --global init.defaultBranch main

git clone -q "$CXLSHM_SOURCE" "$E2E_DIR/origin" || fail "a copy of the source"	# others may commit there
check "git clone into the mount" git clone -q --no-hardlinks "$E2E_DIR/origin" "$MNT/clone"
check "git fsck" git -C "$MNT/clone" fsck --full
same "git status is clean" "$(git -C "$MNT/clone" status --porcelain)" ""
same "the same commit" "$(git -C "$MNT/clone" rev-parse HEAD)" "$(git -C "$E2E_DIR/origin" rev-parse HEAD)"
check "twenty commits" bash -c 'cd "$1" && for i in $(seq 20); do echo $i >>file; git add file; git commit -qm $i || exit 1; done' - "$MNT/clone"
check "branch, merge" bash -c 'cd "$1" && git checkout -qb side HEAD~5 && echo s >side && git add side && git commit -qm side && git checkout -q - && git merge -q --no-edit side' - "$MNT/clone"
check "git gc" git -C "$MNT/clone" gc -q --aggressive --prune=now
check "git fsck after it" git -C "$MNT/clone" fsck --full
check "git worktree" git -C "$MNT/clone" worktree add -q "$MNT/worktree" HEAD~3
check "a clone out of the mount" git clone -q "$MNT/clone" "$E2E_DIR/out"
same "has what was committed" "$(wc -l <"$E2E_DIR/out/file")" 20
check "a clone inside it, by hard links" git clone -q --local "$MNT/clone" "$MNT/local"
check "git fsck of that" git -C "$MNT/local" fsck --full
check "rm -rf" rm -rf "$MNT/clone" "$MNT/worktree" "$MNT/local"
finish
