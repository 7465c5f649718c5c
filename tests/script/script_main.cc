// Runs script files: script_test FILE…. Each runs three times, with sequence numbers anywhere and around 2^31 and 2^32.
#include <cstdio>
#include <exception>
#include <fstream>
#include <sstream>

#include "tests/script/machine.hh"

namespace {

bool run_file(const char* path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  try {
    if (!file) throw tto::script::Failure("cannot be read");
    const auto script = tto::script::parse_script(text.str());
    for (const auto wrap : {tto::script::Wrap::kNone, tto::script::Wrap::k31, tto::script::Wrap::k32}) {
      tto::script::Machine(script, wrap).run();
    }
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s: %s\n", path, e.what());
    return false;
  }
  std::printf("%s: %s\n", path, "passed");
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: script_test FILE…\n");
    return 2;
  }
  int failed = 0;
  for (int i = 1; i < argc; ++i) failed += run_file(argv[i]) ? 0 : 1;
  return failed == 0 ? 0 : 1;
}
