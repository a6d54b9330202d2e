/* Shows who is in the cluster, and every change of that for so many seconds.
 *   watch HOST:PORT [SECONDS] */
#include "zepto.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static zepto_str str(const char *text) {
  zepto_str s = { text, strlen(text) };
  return s;
}

static int fail(zepto_status status, zepto_error *error, const char *what) {
  zepto_str why = zepto_error_message(error);
  fprintf(stderr, "watch: %s: %.*s (%d)\n", what, (int)why.len, why.ptr ? why.ptr : "", (int)status);
  zepto_error_free(error);
  return 1;
}

static const char *state_text(uint32_t state) {
  switch (state) {
    case ZEPTO_MEMBER_JOINING: return "JOINING";
    case ZEPTO_MEMBER_ACTIVE: return "ACTIVE";
    case ZEPTO_MEMBER_LEAVING: return "LEAVING";
    case ZEPTO_MEMBER_DEAD: return "DEAD";
    default: return "?";
  }
}

static void show(const zepto_members *members) {
  printf("index %llu:", (unsigned long long)zepto_members_index(members));
  for (size_t i = 0; i < zepto_members_count(members); i++) {
    zepto_member member = { .struct_size = sizeof member };
    if (zepto_members_at(members, i, &member) != ZEPTO_OK) continue;
    printf(" %.*s %s at %.*s with %u partitions;", (int)member.name.len, member.name.ptr,
           state_text(member.state), (int)member.address.len, member.address.ptr,
           member.partitions);
  }
  printf("\n");
  fflush(stdout);
}

int main(int argc, char **argv) {
  const uint64_t second = 1000000000u;
  const zepto_str seeds[] = { str(argc > 1 ? argv[1] : "127.0.0.1:9000") };
  const long seconds = argc > 2 ? strtol(argv[2], NULL, 10) : 60;
  zepto_client_options options = { .struct_size = sizeof options, .abi_version = ZEPTO_ABI_VERSION };
  zepto_client *client = NULL;
  zepto_error *error = NULL;
  zepto_status status;
  uint64_t index = 0;

  options.seeds = seeds;
  options.seeds_len = 1;
  status = zepto_client_open(&options, &client, &error);
  if (status != ZEPTO_OK) return fail(status, error, "open");
  for (long left = seconds; left >= 0;) {
    zepto_members *members = NULL;
    status = zepto_members_wait(client, index, second, &members, &error);
    if (status == ZEPTO_OK) {
      index = zepto_members_index(members);
      show(members);
      zepto_members_free(members);
    } else if (status == ZEPTO_E_TIMEOUT) {
      zepto_error_free(error);
      left--;
    } else {
      return fail(status, error, "wait");
    }
  }
  zepto_client_free(client);
  return 0;
}
