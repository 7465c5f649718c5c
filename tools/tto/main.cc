// tto: run programs on libtto, and see what happens to them.
#include <cstdio>
#include <cstring>

#include "tools/tto/commands.hh"

namespace {

struct Command {
  const char* name;
  int (*run)(int, char**);
  const char* usage;
};

constexpr Command kCommands[] = {
    {"run", tto::tools::run_command, "run [--profile P] -- CMD…   start CMD on libtto (profiles: see docs/support.md)"},
    {"stat", tto::tools::stat_command, "stat [PID] [--json]         counters and flows of one process, or of all you may see"},
    {"explain", tto::tools::explain_command, "explain PID [--json]        who serves each TCP descriptor, since when, and why"},
    {"capture", tto::tools::capture_command, "capture PID|all -w FILE     live pcapng of accelerated traffic"},
    {"cleanup", tto::tools::cleanup_command, "cleanup [--config FILE]     remove what a killed ttod left behind (root)"},
};

int usage(std::FILE* out) {
  std::fprintf(out, "tto %s\nusage: tto COMMAND\n", TTO_VERSION);
  for (const Command& c : kCommands) std::fprintf(out, "  tto %s\n", c.usage);
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return usage(stderr);
  for (const Command& c : kCommands)
    if (std::strcmp(argv[1], c.name) == 0) return c.run(argc - 1, argv + 1);
  if (std::strcmp(argv[1], "--version") == 0) return std::printf("tto %s\n", TTO_VERSION) < 0;
  if (std::strcmp(argv[1], "--help") == 0 || std::strcmp(argv[1], "help") == 0) return usage(stdout), 0;
  std::fprintf(stderr, "tto: no command \"%s\"\n", argv[1]);
  return usage(stderr);
}
