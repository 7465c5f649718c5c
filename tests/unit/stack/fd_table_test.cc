#include "libtto/stack/fd_table.hh"

#include <gtest/gtest.h>

#include <vector>

#include "libtto/stack/io_vector.hh"

namespace tto::stack {
namespace {

constexpr int kFd = 5000;

SocketEntry* entry_with(int count) {
  SocketEntry* entry = make_entry(false);
  for (int i = 0; i < count; ++i) assign(kFd + i, Path::kKernel, entry, stats::Counter::kernel_undecided);
  entry->fd_count = static_cast<uint32_t>(count);
  return entry;
}

TEST(FdTable, word__survives_a_round_trip) {
  const FdWordParts parts{Path::kTcp, stats::Counter::kernel_policy, 0xbeef, 0x12345678};
  const FdWordParts again = FdWordParts::of(parts.word());
  EXPECT_EQ(again.path, Path::kTcp);
  EXPECT_EQ(again.reason, stats::Counter::kernel_policy);
  EXPECT_EQ(again.generation, 0xbeef);
  EXPECT_EQ(again.index, 0x12345678u);
}

TEST(FdTable, word__internal_is_the_map_s_own) {
  EXPECT_EQ(path_of(kInternalFdWord), Path::kInternal);
  EXPECT_EQ(FdWordParts::of(kInternalFdWord).index, 0u);
}

TEST(FdTable, S6_all_duplicates_switch_path_together) {
  SocketEntry* entry = entry_with(3);
  EXPECT_TRUE(is_undecided(fd_word(kFd + 2)));
  reassign_all(*entry, kFd + 1, Path::kTcp, stats::Counter::kCount);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(is_tcp(fd_word(kFd + i)));
  give_to_kernel(*entry, kFd, stats::Counter::kernel_policy);
  for (int i = 0; i < 3; ++i) {
    const FdWordParts parts = FdWordParts::of(fd_word(kFd + i));
    EXPECT_EQ(parts.path, Path::kKernel);
    EXPECT_EQ(parts.index, 0u);
    EXPECT_STREQ(reason_text(parts.reason), "policy");
    forget(kFd + i);
    EXPECT_EQ(fd_word(kFd + i), 0u);
  }
}

TEST(FdTable, free_entry__changes_the_generation) {
  SocketEntry* entry = entry_with(1);
  const uint64_t before = fd_word(kFd);
  forget(kFd);
  const uint32_t index = entry->index;
  free_entry(*entry);
  SocketEntry* again = entry_with(1);
  ASSERT_EQ(again->index, index);
  EXPECT_NE(fd_word(kFd), before);
  forget(kFd);
  free_entry(*again);
}

TEST(FdTable, make_entry__many) {
  std::vector<SocketEntry*> all;
  for (int i = 0; i < 1000; ++i) {
    all.push_back(make_entry(true));
    ASSERT_NE(all.back(), nullptr);
    EXPECT_EQ(&entry_at(all.back()->index), all.back());
  }
  for (SocketEntry* e : all) free_entry(*e);
}

TEST(FdTable, reason_text__dashes_and_none) {
  EXPECT_STREQ(reason_text(stats::Counter::kernel_no_helper), "no-helper");
  EXPECT_EQ(reason_text(stats::Counter::rx_frame), nullptr);
}

TEST(FdTable, for_each_known__only_the_range) {
  SocketEntry* entry = entry_with(2);
  int seen = 0;
  for_each_known(kFd + 1, kFd + 100, [&](int fd, uint64_t) {
    EXPECT_EQ(fd, kFd + 1);
    ++seen;
  });
  EXPECT_EQ(seen, 1);
  forget(kFd);
  forget(kFd + 1);
  free_entry(*entry);
}

TEST(IoVector, vector_bytes__as_the_kernel_imports_it) {
  char buffer[64];
  const iovec good[] = {{buffer, 10}, {nullptr, 0}, {buffer, 20}};
  EXPECT_EQ(vector_bytes(good, 3), 30);
  const iovec negative[] = {{buffer, static_cast<size_t>(-1)}};
  EXPECT_EQ(vector_bytes(negative, 1), -EINVAL);
  const iovec null[] = {{nullptr, 1}};
  EXPECT_EQ(vector_bytes(null, 1), -EFAULT);
  const iovec kernel[] = {{reinterpret_cast<void*>(uintptr_t{1} << 63), 8}};
  EXPECT_EQ(vector_bytes(kernel, 1), -EFAULT);
}

TEST(IoVector, S10_window_walks_a_long_vector) {
  char buffer[1024];
  iovec iov[1024];
  for (int i = 0; i < 1024; ++i) iov[i] = {buffer + i, static_cast<size_t>(i % 3)};
  uint64_t total = 0;
  for (const iovec& v : iov) total += v.iov_len;
  uint64_t done = 0;
  for (bool more = true; more;) {
    const VectorWindow window(iov, 1024, done);
    ASSERT_LE(window.count, VectorWindow::kPieces);
    done += window.bytes;
    more = window.has_more;
  }
  EXPECT_EQ(done, total);
}

TEST(IoVector, window__begins_inside_a_piece) {
  char buffer[100];
  const iovec iov[] = {{buffer, 10}, {buffer + 10, 90}};
  const VectorWindow window(iov, 2, 15);
  ASSERT_EQ(window.count, 1);
  EXPECT_EQ(window.pieces[0].iov_base, buffer + 15);
  EXPECT_EQ(window.bytes, 85u);
}

}  // namespace
}  // namespace tto::stack
