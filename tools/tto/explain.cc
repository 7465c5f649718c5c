// tto explain: for each TCP descriptor of a process, who serves it, since when, and if it is the kernel, why.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include <nlohmann/json.hpp>
#include <time.h>

#include "tools/tto/commands.hh"
#include "tools/tto/process_view.hh"

namespace tto::tools {
namespace {

struct Reason {
  const char* name;
  const char* text;
};
constexpr Reason kReasons[] = {
#define TTO_FALLBACK(name, text) {#name, text},
#include "libtto/stats/fallback_reason.def"
#undef TTO_FALLBACK
};

const char* text_of(const std::string& reason) {
  for (const Reason& r : kReasons)
    if (reason == r.name) return r.text;
  return "a reason this version of tto does not know";
}

std::string local_time(uint64_t ns) {
  auto seconds = time_t(ns / 1000000000u);
  tm parts;
  char text[32] = "?";
  if (localtime_r(&seconds, &parts) != nullptr) strftime(text, sizeof text, "%F %T", &parts);
  return text;
}

}  // namespace

int explain_command(int argc, char** argv) {
  bool as_json = false;
  int pid = 0;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--json") == 0) as_json = true;
    else pid = std::atoi(argv[i]);
  }
  if (pid <= 0) {
    std::fprintf(stderr, "usage: tto explain PID [--json]\n");
    return 2;
  }
  std::string why;
  auto view = view_process(pid, &why);
  if (!view) {
    std::fprintf(stderr, "tto explain: %d: %s\n", pid, why.c_str());
    return 1;
  }
  if (as_json) {
    nlohmann::json fds = nlohmann::json::array();
    for (const FdView& f : view->fds)
      fds.push_back({{"fd", f.fd}, {"path", f.path}, {"state", f.state}, {"peer", f.peer}, {"since_ns", f.since_ns},
                     {"reason", f.reason}, {"reason_text", f.reason.empty() ? "" : text_of(f.reason)}});
    std::printf("%s\n", nlohmann::json{{"pid", view->pid}, {"command", view->command}, {"fds", fds}}.dump().c_str());
    return 0;
  }
  std::printf("%d %s\n", view->pid, view->command.c_str());
  for (const Nic& n : view->nics) std::printf("  link %s: XDP %s\n", n.name.c_str(), n.mode.c_str());
  if (view->fds.empty()) std::printf("  no TCP descriptor is open\n");
  for (const FdView& f : view->fds) {
    std::printf("  fd %-5d %-7s since %s", f.fd, f.path.c_str(), local_time(f.since_ns).c_str());
    if (!f.state.empty()) std::printf("  %s", f.state.c_str());
    if (!f.peer.empty()) std::printf("  with %s", f.peer.c_str());
    if (!f.reason.empty()) std::printf("  %s: %s", f.reason.c_str(), text_of(f.reason));
    std::printf("\n");
  }
  return 0;
}

}  // namespace tto::tools
