// tto run: sets the preload library and the profile, and becomes the program.
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include <unistd.h>

#include "tools/tto/commands.hh"

namespace tto::tools {
namespace {

constexpr const char* kProfiles[] = {"latency", "balanced", "throughput", "safe", "kernel"};
constexpr const char* kLibrary = "libtto_preload.so";

/// Beside this program, in the build tree, or where it was installed; empty if nowhere.
std::string find_library() {
  char self[4096];
  ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
  std::string folder = n > 0 ? std::string(self, size_t(n)) : std::string();
  folder.resize(folder.rfind('/') == std::string::npos ? 0 : folder.rfind('/'));
  for (const std::string& candidate : {folder + "/" + kLibrary, folder + "/../preload/" + kLibrary,
                                       folder + "/../" TTO_LIBDIR "/tto/" + kLibrary,
                                       std::string(TTO_FULL_LIBDIR "/tto/") + kLibrary}) {
    char resolved[4096];
    if (realpath(candidate.c_str(), resolved) != nullptr && access(resolved, R_OK) == 0) return resolved;
  }
  return "";
}

int usage(const char* problem) {
  std::fprintf(stderr, "tto run: %s\nusage: tto run [--profile latency|balanced|throughput|safe|kernel] -- CMD…\n", problem);
  return 2;
}

}  // namespace

int run_command(int argc, char** argv) {
  int i = 1;
  const char* profile = nullptr;
  for (; i < argc && argv[i][0] == '-'; ++i) {
    if (std::strcmp(argv[i], "--") == 0) {
      ++i;
      break;
    }
    if (std::strcmp(argv[i], "--profile") == 0 && i + 1 < argc) profile = argv[++i];
    else return usage((std::string("unknown option ") + argv[i]).c_str());
  }
  if (i >= argc) return usage("no program to run");
  if (profile != nullptr) {
    bool known = false;
    for (const char* p : kProfiles) known = known || std::strcmp(p, profile) == 0;
    if (!known) return usage((std::string("no profile \"") + profile + "\"").c_str());
    setenv("TTO_PROFILE", profile, 1);
  }
  std::string library = find_library();
  if (library.empty()) {
    std::fprintf(stderr, "tto run: %s is neither beside tto nor in " TTO_FULL_LIBDIR "/tto\n", kLibrary);
    return 1;
  }
  if (library.find_first_of(": ") != std::string::npos) {  // the loader splits LD_PRELOAD there
    std::fprintf(stderr, "tto run: the path of %s has a space or a colon, which LD_PRELOAD cannot express\n", library.c_str());
    return 1;
  }
  const char* others = std::getenv("LD_PRELOAD");
  setenv("LD_PRELOAD", (others != nullptr && *others != 0 ? library + ":" + others : library).c_str(), 1);
  execvp(argv[i], argv + i);
  std::fprintf(stderr, "tto run: %s: %s\n", argv[i], std::strerror(errno));
  return errno == ENOENT ? 127 : 126;
}

}  // namespace tto::tools
