#include "libtto/base/fd_map.hh"

#include <gtest/gtest.h>

#include "libtto/base/sys.hh"

namespace tto {
namespace {

TEST(FdMap, fd_word__numbers_that_cannot_be) {
  EXPECT_EQ(fd_word(-1), 0u);
  EXPECT_EQ(fd_word(INT32_MIN), 0u);
  EXPECT_EQ(fd_word(INT32_MAX), 0u);
  EXPECT_EQ(fd_word_for_writing(-1), nullptr);
}

TEST(FdMap, M6_grows_with_use) {
  constexpr int kFar = (1 << 30) - 1;
  EXPECT_EQ(fd_word(kFar), 0u);
  FdWord* word = fd_word_for_writing(kFar);
  ASSERT_NE(word, nullptr);
  word->store(77);
  EXPECT_EQ(fd_word(kFar), 77u);
  EXPECT_EQ(fd_word(kFar - 1), 0u);
  word->store(0);
}

TEST(FdMap, make_internal_fd__moves_high_and_marks) {
  const int fd = sys::eventfd2(0, 0);
  ASSERT_GE(fd, 0);
  const int moved = make_internal_fd(fd);
  ASSERT_GE(moved, 0);
  EXPECT_GT(moved, fd);
  EXPECT_TRUE(is_internal_fd(moved));
  EXPECT_FALSE(is_internal_fd(fd));
  EXPECT_EQ(sys::fcntl(fd, F_GETFD), -EBADF);
  EXPECT_EQ(sys::fcntl(moved, F_GETFD), FD_CLOEXEC);
  close_internal_fd(moved);
  EXPECT_FALSE(is_internal_fd(moved));
  EXPECT_EQ(sys::fcntl(moved, F_GETFD), -EBADF);
}

TEST(FdMap, make_internal_fd__error_passes_through) { EXPECT_EQ(make_internal_fd(-EMFILE), -EMFILE); }

}  // namespace
}  // namespace tto
