// Two namespaces joined by a veth pair, a ttod of our own, and clients in child processes that are user nobody. Names
// carry the process id, so runs do not meet. Needs root.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <utility>

namespace ttod::testing {

inline bool has_root() { return geteuid() == 0; }

/// Runs a shell command; true if it succeeded.
inline bool sh(const std::string& command) { return std::system((command + " >/dev/null 2>&1").c_str()) == 0; }

/// What a command printed.
inline std::string output_of(const std::string& command) {
  std::string text;
  FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  char line[512];
  while (pipe != nullptr && fgets(line, sizeof line, pipe) != nullptr) text += line;
  if (pipe != nullptr) pclose(pipe);
  return text;
}

/// Asks until it is so, at most `limit`.
inline bool becomes(const std::function<bool()>& is_so, std::chrono::milliseconds limit = std::chrono::seconds(5)) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!is_so()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

inline bool enter_netns(const std::string& name) {
  const int fd = open(("/run/netns/" + name).c_str(), O_RDONLY | O_CLOEXEC);
  const bool entered = fd >= 0 && setns(fd, CLONE_NEWNET) == 0;
  if (fd >= 0) close(fd);
  return entered;
}

class Lab {
 public:
  /// `binary`: the ttod to test.
  explicit Lab(std::string binary) : binary_(std::move(binary)) {
    const std::string number = std::to_string(getpid());
    a = "ttod-a" + number;
    b = "ttod-b" + number;
    dir = "/tmp/ttod-test-" + number;
    socket = dir + "/ttod.sock";
    pin_dir = "/sys/fs/bpf/ttod-test-" + number;
    mkdir(dir.c_str(), 0755);
    const std::string in_a = "ip -n " + a + " ", in_b = "ip -n " + b + " ";
    sh("ip netns add " + a);
    sh("ip netns add " + b);
    sh("ip link add nic0 netns " + a + " type veth peer name nic0 netns " + b);
    for (const std::string& in : {in_a, in_b}) {
      const std::string last = in == in_a ? "1" : "2";
      sh(in + "link set lo up");
      sh(in + "addr add 10.91.0." + last + "/24 dev nic0");
      sh(in + "-6 addr add fd91::" + last + "/64 dev nic0 nodad");
      sh(in + "link set nic0 up");
    }
  }
  ~Lab() {
    stop_daemon(SIGTERM);
    sh("ip netns del " + a);
    sh("ip netns del " + b);
    sh(binary_ + " cleanup --pin-dir " + pin_dir + " --socket " + socket);
    sh("rm -rf " + dir);
  }
  Lab(const Lab&) = delete;
  Lab& operator=(const Lab&) = delete;

  bool start_daemon(const std::string& more_config = "") {
    std::ofstream(dir + "/ttod.toml") << "socket = \"" << socket << "\"\npin_dir = \"" << pin_dir
                                      << "\"\ninterfaces = [\"nic*\"]\n"
                                      << more_config;
    daemon = fork();
    if (daemon == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      const int log = open((dir + "/ttod.log").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
      dup2(log, 2);
      execl(binary_.c_str(), "ttod", "--foreground", "--verbose", "--config", (dir + "/ttod.toml").c_str(), nullptr);
      _exit(127);
    }
    return becomes([&] { return access(socket.c_str(), F_OK) == 0; }, std::chrono::seconds(20));
  }
  void stop_daemon(int signal) {
    if (daemon <= 0) return;
    kill(daemon, signal);
    if (!becomes([&] { return waitpid(daemon, nullptr, WNOHANG) == daemon; })) {
      std::fprintf(stderr, "ttod does not end\n%s\n", log().c_str());
      kill(daemon, SIGKILL);
      waitpid(daemon, nullptr, 0);
    }
    daemon = -1;
  }
  std::string log() const {
    std::ifstream file(dir + "/ttod.log");
    return {std::istreambuf_iterator<char>(file), {}};
  }
  std::string map(const std::string& name) const {
    return output_of("bpftool map dump pinned " + pin_dir + "/" + name);
  }
  size_t entries(const std::string& name) const {
    const std::string text = map(name);
    size_t count = 0;
    for (size_t at = text.find("\"key\""); at != std::string::npos; at = text.find("\"key\"", at + 1)) ++count;
    return count;
  }
  bool has_xdp() const { return output_of("ip -n " + a + " link show nic0").find("prog/xdp") != std::string::npos; }

  std::string a, b, dir, socket, pin_dir;
  pid_t daemon = -1;

 private:
  std::string binary_;
};

/// What one process waits for and another says, once; made before the fork.
class Gate {
 public:
  Gate() {
    if (pipe2(ends_, O_CLOEXEC) != 0) std::abort();
  }
  ~Gate() {
    close(ends_[0]);
    close(ends_[1]);
  }
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;
  void open() {
    if (write(ends_[1], "x", 1) != 1) std::abort();
  }
  /// False: not said in time (the other process has ended, perhaps).
  bool wait(std::chrono::milliseconds limit = std::chrono::seconds(10)) {
    pollfd one{ends_[0], POLLIN, 0};
    char byte = 0;
    return poll(&one, 1, static_cast<int>(limit.count())) == 1 && read(ends_[0], &byte, 1) == 1;
  }

 private:
  int ends_[2];
};

/// A child process in a namespace, as user nobody without capabilities; `run` says how it ends (0: well).
class Client {
 public:
  Client(const std::string& netns, const std::function<int()>& run) {
    pid_ = fork();
    if (pid_ != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const bool is_ready = enter_netns(netns) && setgroups(0, nullptr) == 0 && setgid(65534) == 0 && setuid(65534) == 0;
    _exit(is_ready ? run() : 100);
  }
  ~Client() {
    if (pid_ > 0) end(SIGKILL);
  }
  pid_t pid() const { return pid_; }
  /// The exit code, -1 if a signal ended it.
  int wait() {
    if (pid_ <= 0) return -1;  // it was waited for, or never was
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  void end(int signal) {
    if (pid_ <= 0) return;  // kill() takes -1 for every process there is
    kill(pid_, signal);
    wait();
  }

 private:
  pid_t pid_ = -1;
};

}  // namespace ttod::testing
