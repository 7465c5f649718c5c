#include "kmod-helper/sandbox.hh"

#include <linux/capability.h>
#include <seccomp.h>
#include <sys/capability.h>
#include <sys/prctl.h>

#include <cerrno>
#include <stdexcept>
#include <system_error>

#include "seccomp_policy.inc"  // the file seccomp.policy as one raw string, made by CMake

namespace ttod {
namespace {

constexpr KeptCapability kKept[] = {
    {CAP_NET_ADMIN, "CAP_NET_ADMIN",
     "veth pairs, XDP links, neighbours, namespaces of sockets, busy polling, TCP_REPAIR"},
    {CAP_NET_RAW, "CAP_NET_RAW", "AF_XDP sockets; injection of held frames"},
    {CAP_BPF, "CAP_BPF", "load programs, change maps"},
    {CAP_SYS_ADMIN, "CAP_SYS_ADMIN", "enter network namespaces, mount a bpffs"},
    {CAP_NET_BIND_SERVICE, "CAP_NET_BIND_SERVICE",
     "give connections of ports below 1024 back to their owners' sockets"},
    {CAP_IPC_LOCK, "CAP_IPC_LOCK", "pin the frames of clients, within the policy's limits"},
};

bool is_kept(int capability) {
  for (const KeptCapability& kept : kKept)
    if (kept.capability == capability) return true;
  return false;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

}  // namespace

std::span<const KeptCapability> kept_capabilities() { return kKept; }

void drop_capabilities() {
  for (int capability = 0; cap_get_bound(capability) >= 0; ++capability)
    if (!is_kept(capability) && cap_drop_bound(capability) != 0)
      throw std::system_error(errno, std::generic_category(), "drop a capability from the bounding set");
  cap_t set = cap_init();
  if (set == nullptr) throw std::system_error(errno, std::generic_category(), "cap_init");
  int status = 0;
  for (const KeptCapability& kept : kKept) {
    const cap_value_t value = kept.capability;
    status |= cap_set_flag(set, CAP_PERMITTED, 1, &value, CAP_SET);
    status |= cap_set_flag(set, CAP_EFFECTIVE, 1, &value, CAP_SET);
  }
  if (status == 0) status = cap_set_proc(set);
  const int error = errno;
  cap_free(set);
  if (status != 0) throw std::system_error(error, std::generic_category(), "give up capabilities");
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
    throw std::system_error(errno, std::generic_category(), "no_new_privs");
}

std::vector<std::string> parse_seccomp_policy(std::string_view text) {
  std::vector<std::string> calls;
  size_t number = 0;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const std::string_view line = trimmed(text.substr(0, end));
    text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
    ++number;
    if (line.empty() || line.front() == '#') continue;
    const size_t hash = line.find('#');
    const std::string_view name = trimmed(line.substr(0, hash));
    if (hash == std::string_view::npos || trimmed(line.substr(hash + 1)).size() < 3)
      throw std::runtime_error("seccomp.policy:" + std::to_string(number) + ": no reason given");
    if (seccomp_syscall_resolve_name(std::string(name).c_str()) == __NR_SCMP_ERROR)
      throw std::runtime_error("seccomp.policy:" + std::to_string(number) + ": no such system call");
    calls.emplace_back(name);
  }
  return calls;
}

std::string_view seccomp_policy_text() { return kSeccompPolicy; }

void confine_system_calls() {
  const scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
  if (filter == nullptr) throw std::runtime_error("seccomp_init");
  int status = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);  // the threads that close, too
  for (const std::string& name : parse_seccomp_policy(kSeccompPolicy)) {
    const int added = seccomp_rule_add(filter, SCMP_ACT_ALLOW, seccomp_syscall_resolve_name(name.c_str()), 0);
    if (added != 0) status = added;
  }
  if (status == 0) status = seccomp_load(filter);
  seccomp_release(filter);
  if (status != 0) throw std::runtime_error("system call filter: errno " + std::to_string(-status));
}

}  // namespace ttod
