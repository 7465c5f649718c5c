// tto cleanup: lets ttod's own program remove what an earlier, killed one left (pinned links and maps, its socket). Takes
// ttod's --config, --socket and --pin-dir. Refuses while a ttod serves there: its pins are what live traffic runs on.
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/tto/commands.hh"

namespace tto::tools {
namespace {

std::string find_daemon() {
  char self[4096];
  ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
  std::string folder = n > 0 ? std::string(self, size_t(n)) : std::string();
  folder.resize(folder.rfind('/') == std::string::npos ? 0 : folder.rfind('/'));
  for (const std::string& daemon :
       {folder + "/ttod", folder + "/../kmod-helper/ttod", folder + "/../sbin/ttod", std::string(TTO_FULL_SBINDIR "/ttod")})
    if (access(daemon.c_str(), X_OK) == 0) return daemon;
  return "";
}

void become(const std::string& daemon, char** options, int count, const char* last) {
  std::vector<char*> arguments{const_cast<char*>(daemon.c_str())};
  for (int i = 0; i < count; ++i) arguments.push_back(options[i]);
  arguments.push_back(const_cast<char*>(last));
  arguments.push_back(nullptr);
  execv(daemon.c_str(), arguments.data());
  std::fprintf(stderr, "tto cleanup: %s: %s\n", daemon.c_str(), std::strerror(errno));
}

/// The path of the socket that such a ttod would listen on: the line `socket = "..."` of its printed configuration.
std::string socket_of(const std::string& daemon, char** options, int count) {
  int ends[2];
  if (pipe(ends) != 0) return "";
  pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], STDOUT_FILENO);
    close(ends[0]);
    become(daemon, options, count, "--print-config");
    _exit(1);
  }
  close(ends[1]);
  std::string text;
  char buffer[4096];
  for (ssize_t n; (n = read(ends[0], buffer, sizeof buffer)) > 0;) text.append(buffer, size_t(n));
  close(ends[0]);
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) < 0 || status != 0) return "";
  const std::string key = "socket = \"";
  size_t from = text.rfind(key, 0) == 0 ? 0 : text.find("\n" + key);
  if (from == std::string::npos) return "";
  from = text.find('"', from) + 1;
  return text.substr(from, text.find('"', from) - from);
}

bool is_served(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return false;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  bool answered = fd >= 0 && connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  if (fd >= 0) close(fd);
  return answered;
}

}  // namespace

int cleanup_command(int argc, char** argv) {
  std::string daemon = find_daemon();
  if (daemon.empty()) {
    std::fprintf(stderr, "tto cleanup: ttod is not installed here\n");
    return 1;
  }
  std::string path = socket_of(daemon, argv + 1, argc - 1);
  if (path.empty()) {
    std::fprintf(stderr, "tto cleanup: cannot learn which socket ttod would use\n");
    return 1;
  }
  if (is_served(path)) {
    std::fprintf(stderr, "tto cleanup: a ttod serves at %s: nothing is left over; stop it first\n", path.c_str());
    return 1;
  }
  become(daemon, argv + 1, argc - 1, "cleanup");
  return 1;
}

}  // namespace tto::tools
