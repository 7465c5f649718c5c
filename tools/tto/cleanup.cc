// tto cleanup: asks ttod's own program to remove what an earlier, killed one left (pins, links, hidden namespaces).
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include <unistd.h>

#include "tools/tto/commands.hh"

namespace tto::tools {

int cleanup_command(int argc, char** argv) {
  char self[4096];
  ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
  std::string folder = n > 0 ? std::string(self, size_t(n)) : std::string();
  folder.resize(folder.rfind('/') == std::string::npos ? 0 : folder.rfind('/'));
  for (const std::string& daemon :
       {folder + "/ttod", folder + "/../kmod-helper/ttod", folder + "/../sbin/ttod", std::string(TTO_FULL_SBINDIR "/ttod")}) {
    if (access(daemon.c_str(), X_OK) != 0) continue;
    std::vector<char*> arguments;
    std::string name = daemon, option = "--cleanup";
    arguments.push_back(name.data());
    arguments.push_back(option.data());
    for (int i = 1; i < argc; ++i) arguments.push_back(argv[i]);
    arguments.push_back(nullptr);
    execv(daemon.c_str(), arguments.data());
    std::fprintf(stderr, "tto cleanup: %s: %s\n", daemon.c_str(), std::strerror(errno));
    return 1;
  }
  std::fprintf(stderr, "tto cleanup: ttod is not installed here\n");
  return 1;
}

}  // namespace tto::tools
