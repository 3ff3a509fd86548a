/* SPDX-License-Identifier: MIT */
/*
 * The inputs of a libFuzzer target one after the other, without libFuzzer: what was found stays found out in every build.
 *
 *   TARGET FILE|FOLDER...
 *
 * A case that takes longer than LIMIT_S is a failure.  Prints how many there were; none is a failure, too.
 */
#include <dirent.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define LIMIT_S 20
#define INPUT_MAX 65536

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int run_file(const char *path)
{
	uint8_t *data = malloc(INPUT_MAX), *exact;
	FILE *in = fopen(path, "rb");
	size_t size;

	if (!data || !in) {
		perror(path);
		exit(1);
	}
	size = fread(data, 1, INPUT_MAX, in);
	fclose(in);
	/* To its last byte, so that a sanitizer sees who reads behind it. */
	exact = malloc(size ? size : 1);
	if (!exact)
		exit(1);
	for (size_t i = 0; i < size; i++)
		exact[i] = data[i];
	free(data);
	printf("%s\n", path);
	fflush(stdout);
	alarm(LIMIT_S);
	LLVMFuzzerTestOneInput(exact, size);
	alarm(0);
	free(exact);
	return 1;
}

static int run_folder(const char *path)
{
	DIR *folder = opendir(path);
	struct dirent *entry;
	char file[4096];
	int count = 0;

	if (!folder)
		return run_file(path);
	while ((entry = readdir(folder)))
		if (entry->d_name[0] != '.') {
			snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
			count += run_file(file);
		}
	closedir(folder);
	return count;
}

int main(int argc, char **argv)
{
	int count = 0;

	for (int i = 1; i < argc; i++)
		count += run_folder(argv[i]);
	printf("%d inputs\n", count);
	return !count;
}
