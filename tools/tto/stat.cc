// tto stat: counters and flows, as a table for people or as JSON.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "tools/tto/commands.hh"
#include "tools/tto/helper_counts.hh"
#include "tools/tto/process_view.hh"

namespace tto::tools {
namespace {

using nlohmann::json;

double coalescing(const ProcessView& p) {
  uint64_t aggregates = p.counter("rx_aggregate");
  return aggregates == 0 ? 0 : double(p.counter("rx_frame_delivered")) / double(aggregates);
}

double coalescing(const tto_connection_figures& f) {
  return f.rx_aggregate == 0 ? 0 : double(f.rx_segment) / double(f.rx_aggregate);
}

json to_json(const Flow& f) {
  const tto_connection_figures& n = f.figures;
  return {{"slot", f.slot}, {"fd", n.fd}, {"path", "af_xdp"}, {"state", f.state}, {"local", f.local}, {"remote", f.remote},
          {"rx_byte", n.rx_byte}, {"tx_byte", n.tx_byte}, {"rx_segment", n.rx_segment}, {"tx_segment", n.tx_segment},
          {"rx_aggregate", n.rx_aggregate}, {"coalescing", coalescing(n)}, {"retransmit_segment", n.retransmit_segment},
          {"rto_expired", n.rto_expired}, {"ooo_segment", n.ooo_segment}, {"dup_ack", n.dup_ack},
          {"drop_segment", n.drop_segment}, {"srtt_us", n.srtt_us}, {"rttvar_us", n.rttvar_us}, {"rto_us", n.rto_us},
          {"cwnd_bytes", n.cwnd_bytes}, {"ssthresh_bytes", n.ssthresh_bytes}, {"mss", n.mss},
          {"unsent_byte", f.unsent_byte}, {"unacked_byte", f.unacked_byte}, {"unread_byte", f.unread_byte},
          {"sack", f.has_sack}, {"timestamps", f.has_timestamps}};
}

json to_json(const ProcessView& p) {
  json counters = json::object(), nics = json::array(), fds = json::array(), flows = json::array();
  for (const Counter& c : p.counters) counters[c.name] = c.value;
  for (const Nic& n : p.nics) nics.push_back({{"ifindex", n.ifindex}, {"name", n.name}, {"xdp_mode", n.mode}});
  for (const FdView& f : p.fds)
    fds.push_back({{"fd", f.fd}, {"path", f.path}, {"state", f.state}, {"reason", f.reason}, {"since_ns", f.since_ns}});
  for (const Flow& f : p.flows) flows.push_back(to_json(f));
  return {{"pid", p.pid}, {"command", p.command}, {"uid", p.uid}, {"start_ns", p.start_ns}, {"nics", nics},
          {"coalescing", coalescing(p)}, {"counters", counters}, {"fds", fds}, {"flows", flows}};
}

json to_json(const NamedCounts& counts) {
  json out = json::object();
  for (const auto& [name, value] : counts) out[name] = value;
  return out;
}

/// What ttod's programs counted of the process's frames, if ttod tells.
void add_helper_counts(json& process, int pid) {
  HelperCounts counts;
  if (!ask_counts(pid, &counts)) return;
  json ports = json::array();
  for (const PortCounts& p : counts.ports)
    ports.push_back({{"slot", p.slot}, {"transmit_check", to_json(p.transmit_check)}, {"receive_drops", to_json(p.receive_drops)}});
  process["ports"] = ports;
  if (!counts.steering.empty()) process["steering"] = to_json(counts.steering);
}

void print_helper_counts(int pid) {
  HelperCounts counts;
  if (!ask_counts(pid, &counts)) return;
  const auto print_all = [](const NamedCounts& named) {
    for (const auto& [name, value] : named)
      if (value != 0) std::printf(" %s %llu", name.c_str(), static_cast<unsigned long long>(value));
    std::printf("\n");
  };
  for (const PortCounts& p : counts.ports) {
    std::printf("  transmit check of port %u:", p.slot);
    print_all(p.transmit_check);
    std::printf("  dropped before it reached the process:");
    print_all(p.receive_drops);
  }
  if (counts.steering.empty()) return;
  std::printf("  steering on all links, of all processes:");
  print_all(counts.steering);
}

void print(const ProcessView& p) {
  size_t kernel = 0, accelerated = 0, pair = 0;
  for (const FdView& f : p.fds) (f.path == "kernel" ? kernel : f.path == "pair" ? pair : accelerated)++;
  std::printf("%d %s (uid %u): %zu descriptors on af_xdp, %zu on the kernel, %zu pairs\n", p.pid, p.command.c_str(), p.uid,
              accelerated, kernel, pair);
  for (const Nic& n : p.nics) std::printf("  link %s: XDP %s\n", n.name.c_str(), n.mode.c_str());
  std::printf("  frames in %llu (%llu bytes), out %llu (%llu bytes), %.2f frames per delivered aggregate\n",
              static_cast<unsigned long long>(p.counter("rx_frame")),
              static_cast<unsigned long long>(p.counter("rx_frame_byte")),
              static_cast<unsigned long long>(p.counter("tx_frame")),
              static_cast<unsigned long long>(p.counter("tx_frame_byte")), coalescing(p));
  for (const Counter& c : p.counters)
    if (c.value != 0 && (c.name.rfind("drop_", 0) == 0 || c.name.rfind("kernel_", 0) == 0))
      std::printf("  %-28s %llu\n", c.name.c_str(), static_cast<unsigned long long>(c.value));
  if (p.flows.empty()) return;
  std::printf("  %5s %-12s %-28s %-28s %12s %12s %9s %7s %6s\n", "fd", "state", "local", "remote", "rx bytes", "tx bytes",
              "srtt us", "retrans", "coal");
  for (const Flow& f : p.flows)
    std::printf("  %5d %-12s %-28s %-28s %12llu %12llu %9u %7llu %6.2f\n", f.figures.fd, f.state.c_str(), f.local.c_str(),
                f.remote.c_str(), static_cast<unsigned long long>(f.figures.rx_byte),
                static_cast<unsigned long long>(f.figures.tx_byte), f.figures.srtt_us,
                static_cast<unsigned long long>(f.figures.retransmit_segment), coalescing(f.figures));
}

}  // namespace

int stat_command(int argc, char** argv) {
  bool as_json = false;
  int pid = 0;
  const char* page = nullptr;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--json") == 0) as_json = true;
    else if (std::strcmp(argv[i], "--page") == 0 && i + 1 < argc) page = argv[++i];
    else if ((pid = std::atoi(argv[i])) <= 0) {
      std::fprintf(stderr, "usage: tto stat [PID] [--json]\n");
      return 2;
    }
  }
  std::vector<ProcessView> views;
  std::string why;
  int denied = 0;
  std::vector<int> pids = pid > 0 ? std::vector<int>{pid} : page != nullptr ? std::vector<int>{} : find_processes(&denied);
  if (page != nullptr) {
    if (auto view = view_page(page, &why)) views.push_back(*view);
  }
  for (int p : pids)
    if (auto view = view_process(p, &why)) views.push_back(*view);
  if (views.empty() && (pid > 0 || page != nullptr)) {
    std::fprintf(stderr, "tto stat: %s: %s\n", page != nullptr ? page : std::to_string(pid).c_str(), why.c_str());
    return 1;
  }
  if (as_json) {
    json all = json::array();
    for (const ProcessView& v : views) {
      all.push_back(to_json(v));
      if (page == nullptr) add_helper_counts(all.back(), v.pid);
    }
    std::printf("%s\n", json{{"processes", all}, {"denied", denied}}.dump().c_str());
    return 0;
  }
  for (const ProcessView& v : views) {
    print(v);
    if (page == nullptr) print_helper_counts(v.pid);
  }
  if (views.empty()) std::printf("no process uses libtto\n");
  if (denied > 0) std::printf("(%d processes of other users not looked into)\n", denied);
  return 0;
}

}  // namespace tto::tools
