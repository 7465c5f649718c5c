#include "kmod-helper/steering.hh"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/if_link.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <stdexcept>
#include <system_error>

#include "kmod-helper/log.hh"
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#include "bpf/steer.skel.h"
#include "bpf/txcheck.skel.h"
#include "bpf/xsk.skel.h"
#pragma GCC diagnostic pop

namespace ttod {
namespace {

constexpr uint32_t kNoDevice = 0;

std::string g_libbpf_text;  // libbpf's last lines; shown when a load fails, else noise

int keep_libbpf_line(enum libbpf_print_level level, const char* format, va_list arguments) {
  if (level == LIBBPF_DEBUG) return 0;
  char line[512];
  std::vsnprintf(line, sizeof line, format, arguments);
  if (g_libbpf_text.size() < 4096) g_libbpf_text += line;
  return 0;
}

size_t slot_info_bytes() { return sizeof(tto_slot_info) * TTO_MAX_SLOTS; }

bool has_layout_of(int fd, const bpf_map* map) {
  bpf_map_info info{};
  uint32_t bytes = sizeof info;
  return bpf_obj_get_info_by_fd(fd, &info, &bytes) == 0 && info.type == bpf_map__type(map) &&
         info.key_size == bpf_map__key_size(map) && info.value_size == bpf_map__value_size(map) &&
         info.max_entries == bpf_map__max_entries(map);
}

constexpr uint32_t kEntriesPerCall = 4096;

/// Until `visit` says false. In batches: a table of all flows takes milliseconds, entry by entry it would be a second.
/// Visiting may delete: a batch is a copy, and the mark between two is a bucket, not a key.
template <typename Key, typename Value, typename Visit>
void walk(int map, const Visit& visit) {
  std::vector<Key> keys(kEntriesPerCall);
  std::vector<Value> values(kEntriesPerCall);
  uint32_t mark = 0;
  LIBBPF_OPTS(bpf_map_batch_opts, options);
  for (bool is_first = true, goes_on = true; goes_on; is_first = false) {
    auto count = static_cast<uint32_t>(keys.size());
    const int status =
        bpf_map_lookup_batch(map, is_first ? nullptr : &mark, &mark, keys.data(), values.data(), &count, &options);
    if (status != 0 && errno == ENOSPC) {  // one bucket holds more
      keys.resize(keys.size() * 2);
      values.resize(keys.size());
      continue;
    }
    if (status != 0 && errno != ENOENT) return;  // ENOENT: these were the last
    goes_on = status == 0;
    for (uint32_t i = 0; i < count; ++i)
      if (!visit(keys[i], values[i])) return;
  }
}

template <typename Key, typename Value>
void for_each_entry(int map, const std::function<void(const Key&, const Value&)>& visit) {
  walk<Key, Value>(map, [&](const Key& key, const Value& value) {
    visit(key, value);
    return true;
  });
}

}  // namespace

Steering::Steering() { libbpf_set_print(keep_libbpf_line); }

Steering::~Steering() {
  if (slot_info_ != nullptr) ::munmap(slot_info_, slot_info_bytes());
  if (txcheck_ != nullptr) tto_txcheck__destroy(txcheck_);
  if (xsk_ != nullptr) tto_xsk__destroy(xsk_);
}

int Steering::map_fd(const char* name) const {
  const bpf_map* map = bpf_object__find_map_by_name(txcheck_->obj, name);
  return map != nullptr ? bpf_map__fd(map) : -1;
}

bool Steering::load() {
  g_libbpf_text.clear();
  txcheck_ = tto_txcheck__open();
  if (txcheck_ == nullptr) return false;
  // Not libbpf's own pinning: it compares flags, of which the kernel adds some to a devmap.
  std::vector<bpf_map*> made;
  bool is_compatible = true;
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, txcheck_->obj) {
    const std::string name = bpf_map__name(map);
    if (name.find("tto_") != 0 || name == "tto_port_slots") continue;  // .rodata and the like; this ttod's own
    Fd pinned(bpf_obj_get((pin_dir_ + "/" + name).c_str()));
    if (!pinned) {
      made.push_back(map);
    } else if (!has_layout_of(pinned.get(), map) || bpf_map__reuse_fd(map, pinned.get()) != 0) {
      is_compatible = false;
    }
  }
  bool is_loaded = is_compatible && tto_txcheck__load(txcheck_) == 0;
  for (bpf_map* one : made)
    if (is_loaded && bpf_map__pin(one, (pin_dir_ + "/" + bpf_map__name(one)).c_str()) != 0) is_loaded = false;
  if (is_loaded) return true;
  tto_txcheck__destroy(txcheck_);
  txcheck_ = nullptr;
  return false;
}

void Steering::open(const std::string& pin_dir) {
  pin_dir_ = pin_dir;
  std::error_code ignored;
  std::filesystem::create_directories(pin_dir_, ignored);
  if (!load()) {
    const std::string why = g_libbpf_text;
    const size_t removed = remove_pins(pin_dir_);
    if (removed > 0) LOG_WARNING("maps of another layout in %s: removed %zu pins", pin_dir_.c_str(), removed);
    std::filesystem::create_directories(pin_dir_, ignored);
    if (removed == 0 || !load()) throw std::runtime_error("cannot load the transmit check: " + why + g_libbpf_text);
  }
  xsk_ = tto_xsk__open_and_load();
  if (xsk_ == nullptr) throw std::runtime_error("cannot load the port program: " + g_libbpf_text);
  flt_ = map_fd("tto_flt");
  olt_ = map_fd("tto_olt");
  slot_info_fd_ = map_fd("tto_slot_info");
  nic_devs_ = map_fd("tto_nic_devs");
  nic_macs_ = map_fd("tto_nic_macs");
  neighbors_ = map_fd("tto_neighbors");
  seen_macs_ = map_fd("tto_seen_macs");
  tx_counts_ = map_fd("tto_tx_counts");
  slot_devs_ = map_fd("tto_slot_devs");
  nic_info_ = map_fd("tto_nic_info");
  steer_counts_ = map_fd("tto_steer_counts");
  void* mapped = ::mmap(nullptr, slot_info_bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, slot_info_fd_, 0);
  if (mapped == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "map the slot table");
  slot_info_ = static_cast<tto_slot_info*>(mapped);
}

int Steering::add_flow(const tto_flow_key& key, uint32_t slot) {
  const tto_flow_value value{.slot = slot, .state = TTO_ENTRY_STEER, .accepted = 0, .reserved = 0, .iss = 0};
  return bpf_map_update_elem(flt_, &key, &value, BPF_NOEXIST) == 0 ? 0 : errno;
}

bool Steering::find_flow(const tto_flow_key& key, tto_flow_value& out) const {
  return bpf_map_lookup_elem(flt_, &key, &out) == 0;
}

bool Steering::remove_flow(const tto_flow_key& key, uint32_t slot) {
  tto_flow_value value{};
  if (!find_flow(key, value) || value.slot != slot) return false;
  if (bpf_map_delete_elem(flt_, &key) != 0) return false;
  if (value.accepted != 0 && slot < TTO_MAX_SLOTS)
    __atomic_fetch_sub(&slot_info_[slot].flow_count, 1, __ATOMIC_RELAXED);
  return true;
}

int Steering::set_listen(const tto_listen_key& key, const tto_listen_group& group) {
  return bpf_map_update_elem(olt_, &key, &group, BPF_ANY) == 0 ? 0 : errno;
}

bool Steering::find_listen(const tto_listen_key& key, tto_listen_group& out) const {
  return bpf_map_lookup_elem(olt_, &key, &out) == 0;
}

void Steering::remove_listen(const tto_listen_key& key) { bpf_map_delete_elem(olt_, &key); }

void Steering::for_each_flow(const std::function<void(const tto_flow_key&, const tto_flow_value&)>& visit) const {
  for_each_entry<tto_flow_key, tto_flow_value>(flt_, visit);
}

void Steering::for_each_listen(const std::function<void(const tto_listen_key&, const tto_listen_group&)>& visit) const {
  for_each_entry<tto_listen_key, tto_listen_group>(olt_, visit);
}

int Steering::open_slot(uint32_t slot, uint32_t host_ifindex, uint64_t netns_cookie, uint32_t flow_limit) {
  remove_accepted(slot);  // of the last owner: made while the slot was being silenced
  slot_info_[slot] = tto_slot_info{.netns_cookie = netns_cookie, .flow_limit = flow_limit, .flow_count = 0};
  const std::vector<tto_tx_counts> zero(static_cast<size_t>(libbpf_num_possible_cpus()));
  bpf_map_update_elem(tx_counts_, &slot, zero.data(), BPF_ANY);
  return bpf_map_update_elem(slot_devs_, &slot, &host_ifindex, BPF_ANY) == 0 ? 0 : errno;
}

void Steering::silence_slot(uint32_t slot) {
  __atomic_store_n(&slot_info_[slot].netns_cookie, 0, __ATOMIC_SEQ_CST);
  bpf_map_delete_elem(slot_devs_, &slot);
}

size_t Steering::remove_accepted(uint32_t slot) {
  size_t removed = 0;
  const auto left = [&] { return __atomic_load_n(&slot_info_[slot].flow_count, __ATOMIC_RELAXED); };
  if (left() == 0) return 0;
  walk<tto_flow_key, tto_flow_value>(flt_, [&](const tto_flow_key& key, const tto_flow_value& value) {
    if (value.slot == slot && remove_flow(key, slot)) ++removed;
    return left() != 0;
  });
  if (left() != 0) slot_info_[slot].flow_count = 0;
  return removed;
}

size_t Steering::close_slot(uint32_t slot) {
  silence_slot(slot);
  for_each_listen([&](const tto_listen_key& key, const tto_listen_group& group) {
    tto_listen_group left = group;
    left.count = 0;
    for (uint32_t i = 0; i < std::min<uint32_t>(group.count, TTO_GROUP_SLOTS); ++i)
      if (group.slots[i] != slot) left.slots[left.count++] = group.slots[i];
    if (left.count == 0) {
      remove_listen(key);
    } else if (left.count != group.count) {
      set_listen(key, left);
    }
  });
  size_t removed = 0;
  for_each_flow([&](const tto_flow_key& key, const tto_flow_value& value) {
    if (value.slot == slot && remove_flow(key, slot)) ++removed;
  });
  slot_info_[slot].flow_count = 0;
  return removed;
}

bool Steering::slot_has_device(uint32_t slot) const {
  uint32_t ifindex = kNoDevice;
  return bpf_map_lookup_elem(slot_devs_, &slot, &ifindex) == 0 && ifindex != kNoDevice;
}

int Steering::map_port(uint32_t host_ifindex, uint32_t slot) {
  return bpf_map_update_elem(bpf_map__fd(txcheck_->maps.tto_port_slots), &host_ifindex, &slot, BPF_ANY) == 0 ? 0
                                                                                                             : errno;
}

int Steering::map_xsk(uint32_t client_ifindex, int xsk) {
  return bpf_map_update_elem(bpf_map__fd(xsk_->maps.tto_xsks), &client_ifindex, &xsk, BPF_ANY) == 0 ? 0 : errno;
}

int Steering::set_nic(uint32_t nic, const tto_nic_info& info) {
  if (bpf_map_update_elem(nic_info_, &nic, &info, BPF_ANY) != 0) return errno;
  return bpf_map_update_elem(nic_devs_, &nic, &info.ifindex, BPF_ANY) == 0 ? 0 : errno;
}

tto_nic_info Steering::nic_info(uint32_t nic) const {
  tto_nic_info info{};
  bpf_map_lookup_elem(nic_info_, &nic, &info);
  return info;
}

void Steering::clear_nic(uint32_t nic) {
  const tto_nic_info none{};
  bpf_map_update_elem(nic_info_, &nic, &none, BPF_ANY);
  bpf_map_delete_elem(nic_devs_, &nic);
}

bool Steering::nic_has_device(uint32_t nic) const {
  uint32_t ifindex = kNoDevice;
  return bpf_map_lookup_elem(nic_devs_, &nic, &ifindex) == 0 && ifindex != kNoDevice;
}

int Steering::set_nic_mac(const tto_nic_mac_key& key, uint32_t nic) {
  return bpf_map_update_elem(nic_macs_, &key, &nic, BPF_ANY) == 0 ? 0 : errno;
}

void Steering::clear_nic_mac(const tto_nic_mac_key& key) { bpf_map_delete_elem(nic_macs_, &key); }

int Steering::add_neighbor(const tto_neighbor_key& key) {
  const uint8_t one = 1;
  return bpf_map_update_elem(neighbors_, &key, &one, BPF_ANY) == 0 ? 0 : errno;
}

void Steering::remove_neighbor(const tto_neighbor_key& key) {
  bpf_map_delete_elem(neighbors_, &key);
  bpf_map_delete_elem(seen_macs_, &key);
}

std::string Steering::link_pin(uint32_t nic) const { return pin_dir_ + "/steer-" + std::to_string(nic); }

int Steering::attach_steer(uint32_t nic, uint32_t ifindex, XdpMode mode, SteerLink& out) {
  g_libbpf_text.clear();
  tto_steer* program = tto_steer__open();
  if (program == nullptr) return ENOMEM;
  program->rodata->nic_id = nic;
  int status = 0;
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, program->obj) {
    const int shared = map_fd(bpf_map__name(map));
    const bool ours = std::strncmp(bpf_map__name(map), "tto_", 4) == 0 && shared >= 0;
    if (ours && bpf_map__reuse_fd(map, shared) != 0) status = errno;
  }
  if (status == 0 && tto_steer__load(program) != 0) status = errno;
  if (status != 0) {
    LOG_ERROR("cannot load the steering program: %s", g_libbpf_text.c_str());
  } else {
    LIBBPF_OPTS(bpf_link_create_opts, options);
    options.flags = mode == XdpMode::kNative ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE;
    const int link =
        bpf_link_create(bpf_program__fd(program->progs.tto_steer), static_cast<int>(ifindex), BPF_XDP, &options);
    if (link < 0) {
      status = errno;
    } else {
      out.link.reset(link);
      out.mode = mode;
      const std::string pin = link_pin(nic);
      ::unlink(pin.c_str());
      if (bpf_obj_pin(link, pin.c_str()) != 0)
        LOG_WARNING("cannot pin %s: errno %d; the link goes when ttod does", pin.c_str(), errno);
    }
  }
  tto_steer__destroy(program);  // the link keeps the program, the program its maps
  return status;
}

void Steering::detach_steer(uint32_t nic, SteerLink& link) {
  ::unlink(link_pin(nic).c_str());
  if (link.link) bpf_link_detach(link.link.get());
  link.link.reset();
  link.mode = XdpMode::kNone;
}

bool Steering::is_attached(const SteerLink& link) const {
  bpf_link_info info{};
  uint32_t bytes = sizeof info;
  return bpf_obj_get_info_by_fd(link.link.get(), &info, &bytes) == 0 && info.xdp.ifindex != 0;
}

int Steering::txcheck_program() const { return bpf_program__fd(txcheck_->progs.tto_txcheck); }
int Steering::xsk_program() const { return bpf_program__fd(xsk_->progs.tto_xsk); }

std::vector<uint64_t> Steering::steer_counts() const {
  std::vector<uint64_t> sums(TTO_STEER_COUNTS);
  std::vector<uint64_t> per_cpu(static_cast<size_t>(libbpf_num_possible_cpus()));
  for (uint32_t i = 0; i < TTO_STEER_COUNTS; ++i) {
    if (bpf_map_lookup_elem(steer_counts_, &i, per_cpu.data()) != 0) continue;
    for (const uint64_t n : per_cpu) sums[i] += n;
  }
  return sums;
}

tto_tx_counts Steering::tx_counts(uint32_t slot) const {
  tto_tx_counts sum{};
  std::vector<tto_tx_counts> per_cpu(static_cast<size_t>(libbpf_num_possible_cpus()));
  if (bpf_map_lookup_elem(tx_counts_, &slot, per_cpu.data()) != 0) return sum;
  for (const tto_tx_counts& one : per_cpu)
    for (size_t i = 0; i < TTO_TX_COUNTS; ++i) sum.frames[i] += one.frames[i];
  return sum;
}

std::vector<uint32_t> Steering::sweep() {
  std::vector<uint32_t> alive;
  std::vector<bool> is_alive(TTO_MAX_NICS);
  for (uint32_t nic = 0; nic < TTO_MAX_NICS; ++nic) {
    const std::string pin = link_pin(nic);
    Fd link(bpf_obj_get(pin.c_str()));
    if (!link) continue;
    bpf_link_info info{};
    uint32_t bytes = sizeof info;
    if (bpf_obj_get_info_by_fd(link.get(), &info, &bytes) == 0 && info.xdp.ifindex != 0) {
      alive.push_back(nic);
      is_alive[nic] = true;
    } else {
      ::unlink(pin.c_str());
      clear_nic(nic);
    }
  }
  const auto nic_is_alive = [&](uint32_t nic) { return nic < TTO_MAX_NICS && is_alive[nic]; };
  for_each_flow([&](const tto_flow_key& key, const tto_flow_value& value) {
    if (!nic_is_alive(key.nic) || !slot_has_device(value.slot)) remove_flow(key, value.slot);
  });
  for_each_listen([&](const tto_listen_key& key, const tto_listen_group& group) {
    tto_listen_group left = group;
    left.count = 0;
    for (uint32_t i = 0; i < std::min<uint32_t>(group.count, TTO_GROUP_SLOTS); ++i)
      if (slot_has_device(group.slots[i])) left.slots[left.count++] = group.slots[i];
    if (!nic_is_alive(key.nic) || left.count == 0) {
      remove_listen(key);
    } else if (left.count != group.count) {
      set_listen(key, left);
    }
  });
  for_each_entry<tto_nic_mac_key, uint32_t>(nic_macs_, [&](const tto_nic_mac_key& key, const uint32_t& nic) {
    if (!nic_is_alive(nic)) clear_nic_mac(key);
  });
  for_each_entry<tto_neighbor_key, uint8_t>(neighbors_, [&](const tto_neighbor_key& key, const uint8_t&) {
    if (!nic_is_alive(key.nic)) remove_neighbor(key);
  });
  return alive;
}

int Steering::adopt_steer(uint32_t nic, SteerLink& out) {
  Fd link(bpf_obj_get(link_pin(nic).c_str()));
  if (!link) return errno;
  out.link = std::move(link);
  return 0;
}

void Steering::remove_nic_entries(uint32_t nic) {
  for_each_flow([&](const tto_flow_key& key, const tto_flow_value& value) {
    if (key.nic == nic) remove_flow(key, value.slot);
  });
  for_each_listen([&](const tto_listen_key& key, const tto_listen_group&) {
    if (key.nic == nic) remove_listen(key);
  });
  for_each_entry<tto_neighbor_key, uint8_t>(neighbors_, [&](const tto_neighbor_key& key, const uint8_t&) {
    if (key.nic == nic) remove_neighbor(key);
  });
}

bool Steering::nic_has_entries(uint32_t nic) const {
  bool has = false;
  const auto is_other = [&](const auto& key, const auto&) { return !(has = key.nic == nic); };
  walk<tto_flow_key, tto_flow_value>(flt_, is_other);
  if (!has) walk<tto_listen_key, tto_listen_group>(olt_, is_other);
  return has;
}

size_t remove_pins(const std::string& pin_dir) {
  size_t removed = 0;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(pin_dir, error)) {
    const std::string path = entry.path().string();
    if (entry.path().filename().string().find("steer-") == 0) {
      Fd link(bpf_obj_get(path.c_str()));
      if (link) bpf_link_detach(link.get());
    }
    if (::unlink(path.c_str()) == 0) ++removed;
  }
  std::filesystem::remove(pin_dir, error);
  return removed;
}

void ensure_bpffs(const std::string& where) {
  struct statfs fs {};
  if (::statfs(where.c_str(), &fs) == 0 && fs.f_type == static_cast<decltype(fs.f_type)>(BPF_FS_MAGIC)) return;
  std::error_code ignored;
  std::filesystem::create_directories(where, ignored);
  if (::mount("bpf", where.c_str(), "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RELATIME, "mode=0700") != 0)
    throw std::system_error(errno, std::generic_category(), "mount a bpffs at " + where);
}

}  // namespace ttod
