// ttod: the helper daemon of libtto. `ttod --help` lists what it understands.
#include <getopt.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/signalfd.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <string>

#include "kmod-helper/log.hh"
#include "kmod-helper/policy.hh"
#include "kmod-helper/sandbox.hh"
#include "kmod-helper/server.hh"
#include "kmod-helper/steering.hh"

namespace {

constexpr char kDefaultConfig[] = "/etc/tto/ttod.toml";

constexpr char kHelp[] =
    "usage: ttod [options]            serve clients until SIGTERM\n"
    "       ttod [options] cleanup    remove what an earlier ttod left: pinned links and maps, its socket\n"
    "  --config FILE    policy (default /etc/tto/ttod.toml if it exists)\n"
    "  --socket PATH    where clients connect (default /run/tto/ttod.sock)\n"
    "  --pin-dir DIR    on a bpffs (default /sys/fs/bpf/tto)\n"
    "  --foreground     log lines with the time, for people (default: lines with a priority, for the journal)\n"
    "  --verbose        log sessions too\n"
    "  --print-config   print the policy in force and exit\n"
    "  --self-test      open everything, check it, remove it and exit\n";

struct Options {
  std::string config, socket, pin_dir;
  bool foreground = false, verbose = false, print_config = false, self_test = false, cleanup = false;
};

bool parse_options(int argc, char** argv, Options& o, int& exit_code) {
  const option known[] = {{"config", required_argument, nullptr, 'c'},  {"socket", required_argument, nullptr, 's'},
                          {"pin-dir", required_argument, nullptr, 'p'}, {"foreground", no_argument, nullptr, 'f'},
                          {"verbose", no_argument, nullptr, 'v'},       {"print-config", no_argument, nullptr, 'P'},
                          {"self-test", no_argument, nullptr, 't'},     {"help", no_argument, nullptr, 'h'},
                          {"version", no_argument, nullptr, 'V'},       {nullptr, 0, nullptr, 0}};
  for (int c = 0; (c = getopt_long(argc, argv, "", known, nullptr)) != -1;) {
    switch (c) {
      case 'c':
        o.config = optarg;
        break;
      case 's':
        o.socket = optarg;
        break;
      case 'p':
        o.pin_dir = optarg;
        break;
      case 'f':
        o.foreground = true;
        break;
      case 'v':
        o.verbose = true;
        break;
      case 'P':
        o.print_config = true;
        break;
      case 't':
        o.self_test = true;
        break;
      case 'V':
        std::puts("ttod " TTO_VERSION);
        return false;
      case 'h':
        std::fputs(kHelp, stdout);
        return false;
      default:
        std::fputs(kHelp, stderr);
        exit_code = 2;
        return false;
    }
  }
  for (int i = optind; i < argc; ++i) {
    if (std::string(argv[i]) == "cleanup") {
      o.cleanup = true;
      continue;
    }
    std::fprintf(stderr, "ttod: what is \"%s\"?\n%s", argv[i], kHelp);
    exit_code = 2;
    return false;
  }
  return true;
}

ttod::Policy policy_for(const Options& o) {
  ttod::Policy policy;
  if (!o.config.empty()) {
    policy = ttod::load_policy(o.config);
  } else if (std::filesystem::exists(kDefaultConfig)) {
    policy = ttod::load_policy(kDefaultConfig);
  }
  if (!o.socket.empty()) policy.socket_path = o.socket;
  if (!o.pin_dir.empty()) policy.pin_dir = o.pin_dir;
  return policy;
}

/// Every client costs a few descriptors; the hard limit is what there is.
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

int serve(const ttod::Policy& policy, bool self_test) {
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGTERM);
  sigaddset(&ends, SIGINT);
  sigprocmask(SIG_BLOCK, &ends, nullptr);
  ttod::Fd signals(signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK));
  raise_descriptor_limit();
  ttod::Server server(policy);
  ttod::ensure_bpffs(policy.bpffs);
  ttod::drop_capabilities();
  server.open();
  ttod::confine_system_calls();
  server.self_test();
  if (self_test) return 0;
  server.open_socket();
  server.loop().watch(signals.get(), [&](uint32_t) {
    server.loop().forget(signals.get());
    server.stop();
  });
  server.run();
  LOG_NOTICE("ends");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  int exit_code = 0;
  if (!parse_options(argc, argv, options, exit_code)) return exit_code;
  ttod::log_set_journal(!options.foreground && !options.self_test && !options.cleanup);
  if (options.verbose) ttod::log_set_level(ttod::LogLevel::kDebug);
  try {
    ttod::Policy policy = policy_for(options);
    if (options.print_config) {
      std::fputs(ttod::print_policy(policy).c_str(), stdout);
      return 0;
    }
    if (options.cleanup) {
      std::printf("removed %zu pins from %s\n", ttod::remove_pins(policy.pin_dir), policy.pin_dir.c_str());
      std::error_code ignored;
      std::filesystem::remove(policy.socket_path, ignored);
      return 0;
    }
    return serve(policy, options.self_test);
  } catch (const std::exception& e) {
    LOG_ERROR("%s", e.what());
    return 1;
  }
}
