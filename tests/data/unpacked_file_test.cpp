// Compressed files have the same lines as the plain file, for all compressors; a damaged stream never yields a wrong
// line.
#include "data/files/unpacked_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <zlib.h>
#include <zstd.h>

#include <functional>
#include <thread>

#include "runtime/error.h"
#include "tests/support/temporary_folder.h"

namespace carillon::testing {
namespace {

using Lines = std::vector<std::string>;
constexpr int64_t kLong = int64_t{1} << 30;

std::string gzip(const std::string& text) {
  z_stream stream{};
  deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::string packed(deflateBound(&stream, text.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

std::string zstd(const std::string& text) {
  ZSTD_CCtx* context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
  std::string packed(ZSTD_compressBound(text.size()), '\0');
  packed.resize(ZSTD_compress2(context, packed.data(), packed.size(), text.data(), text.size()));
  ZSTD_freeCCtx(context);
  return packed;
}

using Pack = std::string (*)(const std::string&);
struct Kind {
  Packer packer;
  Pack pack;
};
const Kind kKinds[] = {{Packer::kGzip, gzip}, {Packer::kZstd, zstd}};

Lines lines_of(const std::string& path, Packer packer) {
  UnpackedFile file(path, packer);
  Lines lines;
  for (std::string line; file.line(line, kLong);) lines.push_back(line);
  return lines;
}

// The lines before the error, and the message of the error.
std::pair<Lines, std::string> lines_until_error(const std::string& path, Packer packer) {
  UnpackedFile file(path, packer);
  Lines lines;
  try {
    for (std::string line; file.line(line, kLong);) lines.push_back(line);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kBadInput) << error.what();
    return {lines, error.what()};
  }
  return {lines, ""};
}

// Lines of all lengths up to several blocks, so that lines end at all offsets.
std::string text_of_many_lines() {
  std::string text;
  uint32_t random = 1;
  for (int i = 0; i < 400; ++i) {
    const int length = i % 97 == 0 ? 1500000 : i * 131 % 9000;
    for (int k = 0; k < length; ++k) text += static_cast<char>('a' + (random = random * 1664525 + 1013904223) % 26);
    text += i % 5 == 0 ? "\r\n" : "\n";
  }
  return text + "the last without a newline";
}

TEST(UnpackedFile, GivesTheLinesOfThePlainFile) {
  const TemporaryFolder folder;
  const std::string text = text_of_many_lines();
  const Lines plain = lines_of(folder.write("a", text), Packer::kNone);
  ASSERT_EQ(plain.size(), 401u);
  EXPECT_EQ(plain.back(), "the last without a newline");
  for (const Kind& kind : kKinds) {
    EXPECT_EQ(lines_of(folder.write("b", kind.pack(text)), kind.packer), plain) << name_of(kind.packer);
    // Several members or frames, some empty, split within lines.
    std::string parts = kind.pack("");
    for (size_t at = 0; at < text.size(); at += 700001) parts += kind.pack(text.substr(at, 700001)) + kind.pack("");
    EXPECT_EQ(lines_of(folder.write("c", parts), kind.packer), plain) << name_of(kind.packer);
    UnpackedFile rest(folder / "c", kind.packer);
    EXPECT_EQ(rest.rest(kLong), text);
    EXPECT_EQ(rest.position(), static_cast<int64_t>(parts.size())) << "packed bytes";
  }
  const std::string skippable("\x50\x2a\x4d\x18\x03\0\0\0abc", 11);
  EXPECT_EQ(lines_of(folder.write("d", skippable + zstd("a\n") + skippable + zstd("b\n")), Packer::kZstd),
            (Lines{"a", "b"}));
  EXPECT_EQ(lines_of(folder.write("e", gzip("a\n") + std::string(1000, '\0')), Packer::kGzip), Lines{"a"})
      << "zeros after the last member are padding";
}

TEST(UnpackedFile, CutAnywhereItSaysSo) {
  const TemporaryFolder folder;
  for (const Kind& kind : kKinds) {
    const std::string packed = kind.pack("first line\nsecond line\n") + kind.pack("third\nfourth");
    const Lines whole = lines_of(folder.write("x.gz", packed), kind.packer);
    const size_t boundary = kind.pack("first line\nsecond line\n").size();
    for (size_t length = 0; length < packed.size(); ++length) {
      const auto [lines, error] = lines_until_error(folder.write("x.gz", packed.substr(0, length)), kind.packer);
      if (length == boundary) {
        EXPECT_EQ(error, "") << "a file that ends after a member is a file";
        continue;
      }
      EXPECT_THAT(error, ::testing::AllOf(::testing::HasSubstr("cut off"), ::testing::HasSubstr(name_of(kind.packer)),
                                          ::testing::HasSubstr(fmt::format("x.gz:{}", lines.size() + 1)),
                                          ::testing::HasSubstr(fmt::format("byte {} ", length))))
          << length;
      ASSERT_LE(lines.size(), whole.size());
      for (size_t i = 0; i < lines.size(); ++i) EXPECT_EQ(lines[i], whole[i]) << length;
    }
  }
}

TEST(UnpackedFile, NoFlippedBitChangesALine) {
  const TemporaryFolder folder;
  for (const Kind& kind : kKinds) {
    std::string text;
    for (int i = 0; i < 40; ++i) text += "line " + std::to_string(i * i) + "\n";
    const std::string packed = kind.pack(text);
    int refused = 0;
    for (size_t at = 0; at < packed.size(); ++at)
      for (int bit = 0; bit < 8; ++bit) {
        std::string damaged = packed;
        damaged[at] = static_cast<char>(damaged[at] ^ (1 << bit));
        const std::string path = folder.write("x", damaged);
        std::string found;
        try {
          found = UnpackedFile(path, kind.packer).rest(kLong);
        } catch (const Error& error) {
          EXPECT_EQ(error.code(), ExitCode::kBadInput) << error.what();
          ++refused;
          continue;
        }
        EXPECT_EQ(found, text) << name_of(kind.packer) << " byte " << at << " bit " << bit;
      }
    EXPECT_GT(refused, static_cast<int>(packed.size()) * 5);
  }
}

TEST(UnpackedFile, WhatStandsBehindOrInsteadIsNamed) {
  const TemporaryFolder folder;
  for (const Kind& kind : kKinds) {
    for (const std::string& bytes : {kind.pack("a\n") + "{\"tokens\":[1]}\n", std::string("{\"tokens\":[1]}\n"),
                                     std::string("x"), std::string()}) {
      const auto [lines, error] = lines_until_error(folder.write("x", bytes), kind.packer);
      EXPECT_THAT(error, ::testing::HasSubstr("is not a whole " + std::string(name_of(kind.packer)))) << bytes;
      EXPECT_EQ(lines.size(), bytes.size() > 20 ? 1u : 0u);
    }
  }
}

// Expands to a thousand times its size; no more of it is in memory than requested.
TEST(UnpackedFile, ABombIsBounded) {
  const TemporaryFolder folder;
  const std::string zeros(size_t{64} << 20, ' ');
  for (const Kind& kind : kKinds) {
    const std::string path = folder.write("x", kind.pack(zeros));
    ASSERT_LT(std::filesystem::file_size(path), zeros.size() / 500);
    UnpackedFile lines(path, kind.packer), rest(path, kind.packer);
    std::string line;
    for (const auto& read : {std::function<void()>([&] { lines.line(line, 4 << 20); }),
                             std::function<void()>([&] { (void)rest.rest(4 << 20); })})
      try {
        read();
        ADD_FAILURE();
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::kBadInput);
        EXPECT_THAT(error.what(), ::testing::HasSubstr("longer than 4 MiB"));
      }
    EXPECT_LE(line.capacity(), size_t{9} << 20);
  }
}

TEST(UnpackedFile, APipeIsRead) {
  const TemporaryFolder folder;
  const std::string path = folder / "pipe";
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  std::thread writer([&] { std::ofstream(path, std::ios::binary) << gzip("a\nb\n") << gzip("c"); });
  EXPECT_EQ(lines_of(path, Packer::kGzip), (Lines{"a", "b", "c"}));
  writer.join();
}

}  // namespace
}  // namespace carillon::testing
