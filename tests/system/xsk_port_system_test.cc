// XskPort over real AF_XDP sockets: two network namespaces, a veth pair, native XDP, one socket at each end.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/if_link.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "libtto/memory/region_mapping.hh"
#include "libtto/port/xsk_port.hh"
#include "libtto/port/xsk_setup.hh"
#include "tests/support/port_frames.hh"

namespace tto::port {
namespace {

using testing::Bytes;
using testing::pattern;
using testing::PortUser;

constexpr uint32_t kMtu = 9000;
constexpr uint32_t kFrames = 2048;
constexpr uint32_t kEntries = 512;

/// Namespaces without a name, gone with this process, and a veth pair "port-a" - "port-b" between them.
class VethPair {
 public:
  ~VethPair() {
    for (const int ns : ns_) ::close(ns);
  }
  bool make(uint32_t mtu, int queues) {
    for (int& ns : ns_) {
      if (unshare(CLONE_NEWNET) != 0) return false;
      ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    }
    const std::string count = " numrxqueues " + std::to_string(queues) + " numtxqueues " + std::to_string(queues);
    const std::string other = "/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(ns_[0]);
    run("ip link add port-b" + count + " type veth peer name port-a" + count + " netns " + other);
    for (int which : {0, 1}) {
      enter(which);
      run("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1");
      run(std::string("sysctl -qw net.ipv6.conf.") + name(which) + ".disable_ipv6=1");
      run(std::string("ip link set ") + name(which) + " mtu " + std::to_string(mtu) + " up");
    }
    return ok_;
  }
  void enter(int which) { ok_ = ok_ && setns(ns_[which], CLONE_NEWNET) == 0; }
  static const char* name(int which) { return which == 0 ? "port-a" : "port-b"; }

 private:
  void run(const std::string& command) { ok_ = ok_ && std::system(command.c_str()) == 0; }
  int ns_[2] = {-1, -1};
  bool ok_ = true;
};

XskConfig config_of(unsigned ifindex, uint32_t queue, XskConfig config = {}) {
  config.ifindex = ifindex;
  config.queue = queue;
  config.mtu_bytes = kMtu;
  config.fill_entries = config.completion_entries = config.rx_entries = config.tx_entries = kEntries;
  return config;
}

/// A region, the socket over it, and its port; the region is one more of a pool.
struct Socket {
  bool open(const XskConfig& config, memory::FramePool& pool, bpf_object* object) {
    const auto memory_fd = memory::make_region_fd(1, kFrames, 1);
    if (!memory_fd || mapping.map(*memory_fd) != 0) return false;
    ::close(*memory_fd);
    tto_helper_port description{};
    const auto fd = xsk_open(mapping.region(), config, &description);
    if (!fd || port.open(*fd, description, mapping.region(), pool.add_region(mapping.region())) != 0) return false;
    return bpf_map__update_elem(bpf_object__find_map_by_name(object, "xsks"), &config.queue, sizeof config.queue, &*fd,
                                sizeof *fd, 0) == 0;
  }
  memory::RegionMapping mapping;
  XskPort port;
};

/// One end: XDP program, socket on queue 0.
struct End {
  ~End() { bpf_object__close(object); }
  bool attach(int which) {
    ifindex = if_nametoindex(VethPair::name(which));
    object = bpf_object__open_file(REDIRECT_OBJECT, nullptr);
    if (object == nullptr || bpf_object__load(object) != 0) return false;
    const int program = bpf_program__fd(bpf_object__find_program_by_name(object, "redirect_to_xsk"));
    return bpf_xdp_attach(static_cast<int>(ifindex), program, XDP_FLAGS_DRV_MODE, nullptr) == 0;
  }
  bool open(const XskConfig& config) {
    return socket.open(config_of(ifindex, 0, config), pool, object) && user.post(kEntries) == kEntries;
  }
  unsigned ifindex = 0;
  bpf_object* object = nullptr;
  memory::FramePool pool;
  Socket socket;
  XskPort& port = socket.port;
  PortUser user{port, pool};
};

class XskPortSystem : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) {
      std::fprintf(stderr, "\n*** NOT RUN: AF_XDP and network namespaces need root ***\n\n");
      GTEST_SKIP() << "needs root";
    }
    ASSERT_TRUE(veth_.make(kMtu, 2));  // two queues
  }
  void open_both(const XskConfig& config = {}) {
    for (const int which : {0, 1}) {
      veth_.enter(which);
      ASSERT_TRUE(end_[which].attach(which));
      ASSERT_TRUE(end_[which].open(config));
    }
  }
  /// Waits for `count` frames: the kernel's softirq delivers when it likes.
  static std::vector<Bytes> await(End& end, size_t count) { return await(end.port, end.user, count); }
  static std::vector<Bytes> await(XskPort& port, PortUser& user, size_t count) {
    std::vector<Bytes> frames;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    while (frames.size() < count && std::chrono::steady_clock::now() < deadline) {
      port.kick(true);
      for (Bytes& f : user.receive()) frames.push_back(std::move(f));
      user.top_up(kEntries);
    }
    return frames;
  }
  static void await_reclaimed(End& end) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    while (end.pool.free_count() < kFrames - kEntries && std::chrono::steady_clock::now() < deadline) {
      end.port.kick(false);
      end.user.reclaim();
    }
    EXPECT_EQ(end.pool.free_count(), kFrames - kEntries);
    EXPECT_TRUE(end.pool.check_consistency());
  }
  VethPair veth_;
  End end_[2];
};

/// A broadcast frame of an experimental EtherType: no stack answers it.
Bytes frame(size_t size, uint64_t number) {
  Bytes bytes = pattern(size, number);
  for (size_t i = 0; i < 6; ++i) bytes[i] = std::byte{0xff};
  bytes[6] = std::byte{0x02};
  bytes[12] = std::byte{0x88};
  bytes[13] = std::byte{0xb5};
  return bytes;
}

TEST_F(XskPortSystem, every_size__every_byte_both_ways) {
  open_both();
  uint64_t number = 0;
  for (const size_t size : {64u, 65u, 128u, 590u, 1514u, 3840u, 3841u, 4096u, 7680u, 7681u, 9014u}) {
    for (const int from : {0, 1}) {
      const Bytes sent = frame(size, ++number);
      ASSERT_TRUE(end_[from].user.send(sent));
      const auto got = await(end_[1 - from], 1);
      ASSERT_EQ(got.size(), 1u) << size;
      EXPECT_EQ(got[0], sent) << size;
    }
  }
  for (End& end : end_) {
    await_reclaimed(end);
    const PortFigures f = end.port.figures();
    EXPECT_EQ(f.rx_dropped + f.rx_ring_full + f.fill_ring_empty + f.tx_invalid + f.rx_bad_chain, 0u);
  }
}

TEST_F(XskPortSystem, bursts__of_mixed_sizes_arrive_whole_and_in_order) {
  open_both();
  uint64_t number = 0, received = 0;
  for (int round = 0; round < 200; ++round) {
    std::vector<Bytes> sent;
    for (int i = 0; i < 40; ++i, ++number) {
      sent.push_back(frame(64 + number * 397 % 8951, number));
      ASSERT_TRUE(end_[0].user.queue(sent.back()));
    }
    end_[0].port.kick(false);
    std::vector<Bytes> got;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    while (got.size() < sent.size() && std::chrono::steady_clock::now() < deadline) {
      end_[0].port.kick(false);  // nothing to do on kernels that send all at once
      for (Bytes& f : end_[1].user.receive()) got.push_back(std::move(f));
      end_[1].user.top_up(kEntries);
      end_[0].user.reclaim();
    }
    ASSERT_EQ(got, sent) << "round " << round;
    received += got.size();
  }
  EXPECT_EQ(received, 8000u);
  for (End& end : end_) await_reclaimed(end);
}

TEST_F(XskPortSystem, busy_poll__delivers_as_well) {
  open_both({.busy_poll_us = 50});
  for (uint64_t i = 0; i < 100; ++i) {
    ASSERT_TRUE(end_[0].user.send(frame(200, i)));
    EXPECT_EQ(await(end_[1], 1), std::vector<Bytes>{frame(200, i)});
    end_[0].user.reclaim();
  }
  for (End& end : end_) await_reclaimed(end);
}

TEST_F(XskPortSystem, wait_fd__polls_readable_when_there_is_something) {
  open_both();
  pollfd p{end_[1].port.wait_fd(), POLLIN, 0};
  EXPECT_EQ(poll(&p, 1, 0), 0);
  ASSERT_TRUE(end_[0].user.send(frame(100, 1)));
  EXPECT_EQ(poll(&p, 1, 5000), 1);
  EXPECT_EQ(end_[1].user.receive().size(), 1u);
}

TEST_F(XskPortSystem, fill_ring_empty__is_counted) {
  open_both();
  for (uint64_t i = 0; i < kEntries + 40; ++i) {
    ASSERT_TRUE(end_[0].user.send(frame(100, i)));
    end_[0].user.reclaim();
  }
  // Not one frame was taken on the other side: what exceeds its rings is lost, and says so.
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  const auto lost = [&] {
    const PortFigures f = end_[1].port.figures();
    return f.fill_ring_empty + f.rx_ring_full + f.rx_dropped;
  };
  while (lost() == 0 && std::chrono::steady_clock::now() < deadline) end_[0].port.kick(false);
  EXPECT_GT(lost(), 0u);
  EXPECT_EQ(await(end_[1], kEntries).size(), kEntries);
}

TEST_F(XskPortSystem, second_queue__has_a_region_of_its_own_in_the_same_pool) {
  open_both();
  Socket more[2];
  for (const int which : {0, 1}) {
    veth_.enter(which);
    End& end = end_[which];
    ASSERT_TRUE(more[which].open(config_of(end.ifindex, 1), end.pool, end.object));
    EXPECT_EQ(end.pool.frame_count(), 2 * kFrames);
  }
  PortUser a1(more[0].port, end_[0].pool, 1), b1(more[1].port, end_[1].pool, 1);
  b1.post(kEntries);
  // A frame of region 0 cannot leave through region 1's socket: it would be another frame there.
  const FrameSlice foreign{end_[0].pool.take(TTO_FRAME_IN_FLIGHT), 0, 500, false};
  ASSERT_EQ(foreign.frame.region(), 0u);
  ASSERT_EQ(more[0].port.tx_burst({&foreign, 1}, {}), 1u);
  EXPECT_EQ(more[0].port.figures().tx_invalid, 1u);
  EXPECT_EQ(a1.reclaim(), 1u);

  std::vector<memory::FrameHandle> region0;  // from here on the pool gives frames of region 1
  memory::FrameHandle f;
  while (end_[0].pool.take_for_fill(0, &f, 1) == 1) region0.push_back(f);
  for (uint64_t i = 0; i < 200; ++i) {
    ASSERT_TRUE(a1.send(frame(64 + i * 44, i)));
    EXPECT_EQ(await(more[1].port, b1, 1), std::vector<Bytes>{frame(64 + i * 44, i)});
    a1.reclaim();
  }
  EXPECT_TRUE(end_[1].user.receive().empty()) << "frames of queue 1 came by queue 0";
  for (const memory::FrameHandle frame0 : region0) end_[0].pool.drop(frame0, TTO_FRAME_POSTED);
  EXPECT_TRUE(end_[0].pool.check_consistency());
  EXPECT_TRUE(end_[1].pool.check_consistency());
}

/// In a child: from here on any system call but those named ends the process.
void allow_only(std::initializer_list<int> calls) {
  std::vector<sock_filter> f{BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
  for (const int call : calls) {
    f.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(call), 0, 1));
    f.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  }
  f.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
  const sock_fprog program{static_cast<unsigned short>(f.size()), f.data()};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
    _exit(3);
  }
}

/// Sends, receives, refills and reclaims `rounds` frames from end 0 to end 1; exit status 0 if all arrived.
int traffic(End* ends, int rounds, bool kick) {
  for (int i = 0; i < rounds; ++i) {
    const memory::FrameHandle f = ends[0].pool.take(TTO_FRAME_IN_FLIGHT);
    std::memset(ends[0].pool.data(f), 0xff, 100);
    const FrameSlice out{f, 0, 100, false};
    if (!f || ends[0].port.tx_burst({&out, 1}, {}) != 1) return 4;
    if (kick) ends[0].port.kick(true);
    FrameSlice in[8];
    size_t n = 0;
    for (long spin = 0; kick && n == 0 && spin < 500'000'000; ++spin) n = ends[1].port.rx_burst(in, {});
    if (kick && n != 1) return 5;
    for (size_t k = 0; k < n; ++k) ends[1].pool.drop(in[k].frame, TTO_FRAME_POSTED);
    memory::FrameHandle fresh;
    if (n > 0 && (ends[1].pool.take_for_fill(0, &fresh, 1) != 1 || ends[1].port.post_fill({&fresh, 1}) != 1)) return 6;
    memory::FrameHandle done[8];
    const size_t reclaimed = ends[0].port.reclaim(done);
    for (size_t k = 0; k < reclaimed; ++k) ends[0].pool.drop(done[k], TTO_FRAME_IN_FLIGHT);
  }
  return 0;
}

int status_of(pid_t child) {
  int status = 0;
  waitpid(child, &status, 0);
  return status;
}

TEST_F(XskPortSystem, data_path__makes_no_system_call_but_the_kick) {
  open_both();
  if (const pid_t child = fork(); child != 0) {
    EXPECT_EQ(status_of(child), 0) << "sendto and recvfrom allowed";
  } else {
    allow_only({SYS_sendto, SYS_recvfrom, SYS_exit_group});
    _exit(traffic(end_, 1000, true));
  }
}

TEST_F(XskPortSystem, data_path__makes_none_without_a_kick) {
  open_both();
  if (const pid_t child = fork(); child != 0) {
    EXPECT_EQ(status_of(child), 0) << "nothing allowed";
  } else {
    allow_only({SYS_exit_group});
    end_[0].port.kick(false);  // nothing queued, no wakeup wanted
    end_[0].port.kick(true);
    _exit(traffic(end_, 100, false));
  }
  // The same filter does end a process that kicks: the two tests above can fail.
  if (const pid_t child = fork(); child != 0) {
    EXPECT_TRUE(WIFSIGNALED(status_of(child)));
  } else {
    allow_only({SYS_exit_group});
    _exit(traffic(end_, 1, true));
  }
}

}  // namespace
}  // namespace tto::port
