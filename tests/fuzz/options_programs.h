/* SPDX-License-Identifier: MIT */
/*
 * The programs whose command lines fuzz_options.c tries, and which have a parser that is static in them.  Each is included
 * whole in a file of its own; calls that would touch a pool or a file system are replaced there.
 */
#ifndef TESTS_FUZZ_OPTIONS_PROGRAMS_H
#define TESTS_FUZZ_OPTIONS_PROGRAMS_H

/* Aborts if what is understood contradicts itself.  argv is cut to pieces and reordered; optind is to be 0. */
void options_mkfs(int argc, char **argv);
void options_fsck(int argc, char **argv);

#endif
