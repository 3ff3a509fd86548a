#!/bin/sh
# SPDX-License-Identifier: MIT
# localize.sh ARCHIVE RESULT LD OBJCOPY AR: an archive of one object, with cxlshm_* as its only global symbols.
set -eu
archive=$1 result=$2 ld=$3 objcopy=$4 ar=$5
object=$result.d/cxlshm.o
rm -rf "$result.d" "$result"
mkdir "$result.d"
"$ld" -r --whole-archive "$archive" -o "$object"
"$objcopy" --wildcard --keep-global-symbol='cxlshm_*' "$object"
"$ar" rcs "$result" "$object"
rm -rf "$result.d"
