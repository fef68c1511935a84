// tests/frontend/audio_reader_test.cc
// SPDX-License-Identifier: Apache-2.0
#include "frontend/audio_reader.h"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <limits>
#include <random>
#include <thread>

#include "frontend/fbank.h"
#include "tests/frontend/feature_compare.h"
#include "tests/frontend/sound_files.h"
#include "tests/support/npz.h"
#include "tests/support/paths.h"

// libsndfile 1.2 forgets what libvorbis allocated when it refuses a damaged Vorbis header.
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() {
  return "leak:vorbis_info_init\nleak:vorbis_synthesis_headerin\n";
}

namespace ting {
namespace {

using testing::Bytes;
using ::testing::HasSubstr;
using testing::LevelAt;
using testing::MakeSoundFile;
using testing::Sine;

constexpr int kWav16 = SF_FORMAT_WAV | SF_FORMAT_PCM_16;

std::string TempFile(const std::string& name, const Bytes& bytes) {
  const std::string path = ::testing::TempDir() + "ting_audio_" + std::to_string(getpid()) + "_" + name;
  std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return path;
}

std::string Refusal(const Bytes& bytes, const ReadAudioOptions& options = {}) {
  const auto audio = ReadAudioBytes(bytes, options);
  return audio.ok() ? "it was accepted" : audio.status().message();
}

uint32_t Crc32OfInt16(std::span<const float> samples) {
  uint32_t crc = 0xffffffff;
  for (const float sample : samples) {
    const uint32_t value = static_cast<uint16_t>(static_cast<int16_t>(sample));
    for (const uint32_t byte : {value & 0xffU, value >> 8}) {
      crc ^= byte;
      for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (0xedb88320U & (0U - (crc & 1U)));
    }
  }
  return ~crc;
}

std::string ClipPath(const std::string& source) {
  if (source.ends_with(".wav")) return testing::SharedPath("real/wav/" + source);
  if (source.starts_with("common_voice")) return testing::SharedPath("real/commonvoice_zh/clips/" + source);
  return testing::SharedPath("tts/aishell_test/clips/" + source);
}

// The chain from the file on disk to the features that PyTorch WeNet sees.
TEST(ReadAudioTest, RecordingsGiveTheGoldenSamplesAndFeatures) {
  TING_REQUIRE_SHARED();
  const auto golden = testing::Npz::Load(testing::SharedPath("golden/tiny/features.npz"));
  const Fbank fbank = Fbank::Create({}).value();
  int compared = 0;
  for (const std::string& source : golden["sources"].AsStrings()) {
    SCOPED_TRACE(source);
    const auto audio = ReadAudio(ClipPath(source), {});
    ASSERT_TRUE(audio.ok()) << audio.status().message();
    EXPECT_EQ(audio->sample_rate_hz, 16000);
    const std::string name = source.substr(0, source.rfind('.'));
    const auto count_and_crc = golden[name + ".samples_crc32"].As<int64_t>();
    ASSERT_EQ(int64_t(audio->samples.size()), count_and_crc[0]);
    EXPECT_EQ(int64_t{Crc32OfInt16(audio->samples)}, count_and_crc[1]);
    const auto expected = golden[name + ".fbank"].As<float>();
    std::vector<float> features(expected.size());
    ASSERT_EQ(fbank.NumFrames(audio->samples.size()) * 80, int64_t(expected.size()));
    fbank.Compute(audio->samples, 0, expected.size() / 80, features.data());
    testing::ExpectFeaturesNear(features, expected, 80);
    ++compared;
  }
  EXPECT_EQ(compared, 19);
}

struct FormatCase {
  const char* name;
  int format, sample_rate_hz, channels;
  double tolerance;       // of a sine of level 8192
  int extra_samples = 1;  // formats of whole blocks
};
class ReadAudioFormatTest : public ::testing::TestWithParam<FormatCase> {};

// 1 s of 440 Hz, level 1/4, in each format and rate: the right length, frequency and level come back.
TEST_P(ReadAudioFormatTest, KeepsLengthFrequencyAndLevel) {
  const FormatCase& c = GetParam();
  const std::vector<double> mono = Sine(440, 0.25, c.sample_rate_hz, c.sample_rate_hz);
  std::vector<double> interleaved;
  for (const double sample : mono) {
    for (int channel = 0; channel < c.channels; ++channel) interleaved.push_back(sample / (channel + 1));
  }
  const Bytes bytes = MakeSoundFile(c.format, c.sample_rate_hz, c.channels, interleaved);
  for (int channel = 0; channel < c.channels; ++channel) {
    const auto audio = ReadAudioBytes(bytes, {.channel = channel});
    ASSERT_TRUE(audio.ok()) << audio.status().message();
    EXPECT_EQ(audio->sample_rate_hz, 16000);
    EXPECT_NEAR(double(audio->samples.size()), 16000, c.extra_samples);
    EXPECT_NEAR(LevelAt(440, 16000, audio->samples), 8192.0 / (channel + 1), c.tolerance);
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, ReadAudioFormatTest,
    ::testing::Values(FormatCase{"wav16", kWav16, 16000, 1, 0.5}, FormatCase{"wav16_8k", kWav16, 8000, 1, 1},
                      FormatCase{"wav16_44k_stereo", kWav16, 44100, 2, 1},
                      FormatCase{"wav24_48k", SF_FORMAT_WAV | SF_FORMAT_PCM_24, 48000, 1, 0.5},
                      FormatCase{"wav32", SF_FORMAT_WAV | SF_FORMAT_PCM_32, 16000, 3, 0.5},
                      FormatCase{"wav_float", SF_FORMAT_WAV | SF_FORMAT_FLOAT, 16000, 1, 0.5},
                      FormatCase{"wav_double", SF_FORMAT_WAV | SF_FORMAT_DOUBLE, 22050, 1, 0.5},
                      FormatCase{"wav_u8", SF_FORMAT_WAV | SF_FORMAT_PCM_U8, 16000, 1, 50},
                      FormatCase{"wav_alaw", SF_FORMAT_WAV | SF_FORMAT_ALAW, 8000, 1, 100},
                      FormatCase{"wav_ima_adpcm", SF_FORMAT_WAV | SF_FORMAT_IMA_ADPCM, 16000, 1, 100, 1100},
                      FormatCase{"aiff", SF_FORMAT_AIFF | SF_FORMAT_PCM_16, 11025, 1, 1},
                      FormatCase{"flac16", SF_FORMAT_FLAC | SF_FORMAT_PCM_16, 16000, 2, 0.5},
                      FormatCase{"flac24_96k", SF_FORMAT_FLAC | SF_FORMAT_PCM_24, 96000, 1, 0.5},
                      FormatCase{"vorbis", SF_FORMAT_OGG | SF_FORMAT_VORBIS, 16000, 1, 200},
                      FormatCase{"opus_48k", SF_FORMAT_OGG | SF_FORMAT_OPUS, 48000, 2, 200},
                      FormatCase{"opus_16k", SF_FORMAT_OGG | SF_FORMAT_OPUS, 16000, 1, 200},
                      FormatCase{"mp3", SF_FORMAT_MPEG | SF_FORMAT_MPEG_LAYER_III, 44100, 1, 200, 1}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(ReadAudioTest, Int16SamplesComeBackExactly) {
  std::mt19937 random(3);
  std::vector<double> samples(5000);
  for (double& sample : samples) sample = int16_t(random()) / 32768.0;
  for (const int format :
       {kWav16, SF_FORMAT_FLAC | SF_FORMAT_PCM_16, SF_FORMAT_WAV | SF_FORMAT_PCM_24, SF_FORMAT_WAV | SF_FORMAT_FLOAT}) {
    const auto audio = ReadAudioBytes(MakeSoundFile(format, 16000, 1, samples), {});
    ASSERT_TRUE(audio.ok());
    ASSERT_EQ(audio->samples.size(), samples.size());
    for (size_t i = 0; i < samples.size(); ++i) ASSERT_EQ(audio->samples[i], samples[i] * 32768) << format;
  }
}

TEST(ReadAudioTest, FloatsKeepTheirFractions) {
  const std::vector<double> samples(1000, 1.25 / 32768);
  const auto audio = ReadAudioBytes(MakeSoundFile(SF_FORMAT_WAV | SF_FORMAT_FLOAT, 16000, 1, samples), {});
  ASSERT_TRUE(audio.ok());
  EXPECT_EQ(audio->samples[500], 1.25F);
}

TEST(ReadAudioTest, LossyFormatsAreRoundedAndClippedToInt16) {
  std::mt19937 random(4);
  std::vector<double> samples(16000);
  for (double& sample : samples) sample = (random() & 1) ? 0.999 : -0.999;  // overshoots when decoded
  const auto audio = ReadAudioBytes(MakeSoundFile(SF_FORMAT_OGG | SF_FORMAT_VORBIS, 16000, 1, samples), {});
  ASSERT_TRUE(audio.ok());
  int at_limit = 0;
  for (const float sample : audio->samples) {
    ASSERT_EQ(sample, std::round(sample));
    ASSERT_LE(std::abs(sample), 32768);
    at_limit += std::abs(sample) >= 32767;
  }
  EXPECT_GT(at_limit, 0) << "the case does not reach the limits any more";
}

TEST(ReadAudioTest, MeanOfChannels) {
  const Bytes bytes = MakeSoundFile(kWav16, 16000, 2, {0.5, 0.25, -0.5, 0.0, 0.125, 0.375});
  const auto audio = ReadAudioBytes(bytes, {.channel = -1});
  ASSERT_TRUE(audio.ok());
  EXPECT_EQ(audio->samples, (std::vector<float>{0.375F * 32768, -0.25F * 32768, 0.25F * 32768}));
  EXPECT_THAT(Refusal(bytes, {.channel = 2}), HasSubstr("channel 2 was asked for, but there are 2"));
  EXPECT_THAT(Refusal(bytes, {.channel = -2}), HasSubstr("channel -2 was asked for"));
}

TEST(ReadAudioTest, NamesTheReasonForEachRefusal) {
  EXPECT_THAT(Refusal({}), HasSubstr("it is empty"));
  EXPECT_THAT(Refusal(Bytes(1000, std::byte{'x'})), HasSubstr("it is not sound that can be read"));
  EXPECT_THAT(Refusal(MakeSoundFile(kWav16, 16000, 1, {})), HasSubstr("it has 0 samples"));
  EXPECT_THAT(Refusal(MakeSoundFile(kWav16, 16000, 1, {0.5}), {.sample_rate_hz = 0}), HasSubstr("to 0 Hz"));
  EXPECT_THAT(Refusal(MakeSoundFile(kWav16, 50, 1, {0.5})), HasSubstr("the header claims 50 Hz"));
  EXPECT_THAT(Refusal(MakeSoundFile(SF_FORMAT_AU | SF_FORMAT_PCM_16, 16000, 1, {0.5})),
              HasSubstr("its container (libsndfile's 0x030000) is not read"));
  std::vector<double> samples(100, 0.5);
  samples[70] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(Refusal(MakeSoundFile(SF_FORMAT_WAV | SF_FORMAT_FLOAT, 16000, 1, samples)),
              HasSubstr("sample 70 is not a finite number"));
  samples[70] = 1e36;  // finite until scaled
  EXPECT_THAT(Refusal(MakeSoundFile(SF_FORMAT_WAV | SF_FORMAT_FLOAT, 16000, 1, samples)),
              HasSubstr("sample 70 is not a finite number"));
}

TEST(ReadAudioTest, NamesTheFile) {
  const auto message = [](const std::string& path) { return ReadAudio(path, {}).status().message(); };
  EXPECT_EQ(message("/nonexistent/a.wav"), "/nonexistent/a.wav: no such file");
  EXPECT_EQ(ReadAudio("/nonexistent/a.wav", {}).status().code(), StatusCode::kNotFound);
  EXPECT_THAT(message(::testing::TempDir()), HasSubstr("it is a directory"));
  const std::string empty = TempFile("empty.wav", {});
  EXPECT_EQ(message(empty), empty + ": it is empty (0 bytes)");
  std::remove(empty.c_str());
}

TEST(ReadAudioTest, ReadsFilesAndPipes) {
  const Bytes bytes = MakeSoundFile(kWav16, 16000, 1, Sine(300, 0.5, 16000, 200000));
  const auto expected = ReadAudioBytes(bytes, {});
  ASSERT_TRUE(expected.ok());
  const std::string path = TempFile("sine.wav", bytes);
  const auto audio = ReadAudio(path, {});
  std::remove(path.c_str());
  ASSERT_TRUE(audio.ok()) << audio.status().message();
  EXPECT_EQ(audio->samples, expected->samples);
  const std::string pipe = path + ".pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  std::thread writer(
      [&] { std::ofstream(pipe, std::ios::binary).write(reinterpret_cast<const char*>(bytes.data()), bytes.size()); });
  const auto piped = ReadAudio(pipe, {});
  writer.join();
  std::remove(pipe.c_str());
  ASSERT_TRUE(piped.ok()) << piped.status().message();
  EXPECT_EQ(piped->samples, expected->samples);
}

class CutShortTest : public ::testing::TestWithParam<FormatCase> {};

// A file cut anywhere is refused, and never crashes the reader.
TEST_P(CutShortTest, IsRefused) {
  std::mt19937 random(6);
  std::vector<double> samples = Sine(440, 0.25, 16000, 48000);
  for (double& sample : samples) sample += (random() % 1000) / 10000.0;  // so that no format shrinks it to nothing
  const Bytes whole = MakeSoundFile(GetParam().format, 16000, 1, samples);
  ASSERT_TRUE(ReadAudioBytes(whole, {}).ok());
  for (int i = 0; i < 60; ++i) {
    const size_t size = 1 + (whole.size() - 2) * i / 60;
    EXPECT_FALSE(ReadAudioBytes(std::span(whole).first(size), {}).ok()) << size << " of " << whole.size() << " bytes";
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, CutShortTest,
                         ::testing::Values(FormatCase{"wav", kWav16, 0, 0, 0},
                                           FormatCase{"wav_float", SF_FORMAT_WAV | SF_FORMAT_FLOAT, 0, 0, 0},
                                           FormatCase{"wavex", SF_FORMAT_WAVEX | SF_FORMAT_PCM_16, 0, 0, 0},
                                           FormatCase{"rifx", SF_ENDIAN_BIG | kWav16, 0, 0, 0},
                                           FormatCase{"aiff", SF_FORMAT_AIFF | SF_FORMAT_PCM_16, 0, 0, 0},
                                           FormatCase{"caf", SF_FORMAT_CAF | SF_FORMAT_ALAC_16, 0, 0, 0},
                                           FormatCase{"flac", SF_FORMAT_FLAC | SF_FORMAT_PCM_16, 0, 0, 0},
                                           FormatCase{"vorbis", SF_FORMAT_OGG | SF_FORMAT_VORBIS, 0, 0, 0},
                                           FormatCase{"opus", SF_FORMAT_OGG | SF_FORMAT_OPUS, 0, 0, 0},
                                           FormatCase{"mp3", SF_FORMAT_MPEG | SF_FORMAT_MPEG_LAYER_III, 0, 0, 0}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(ReadAudioTest, LengthsThatAPipeLeavesOpenAreAccepted) {
  for (const uint32_t open_length : {0xffffffffU, 0x7ffff000U}) {
    Bytes bytes = MakeSoundFile(kWav16, 16000, 1, Sine(440, 0.25, 16000, 16000));
    ASSERT_EQ(std::memcmp(bytes.data() + 36, "data", 4), 0);
    std::memcpy(bytes.data() + 40, &open_length, 4);
    const auto audio = ReadAudioBytes(bytes, {});
    ASSERT_TRUE(audio.ok()) << open_length << " " << audio.status().message();
    EXPECT_EQ(audio->samples.size(), 16000U) << open_length;
  }
}

TEST(ReadAudioTest, StopsAtTheLimit) {
  const Bytes bytes = MakeSoundFile(kWav16, 16000, 1, Sine(440, 0.25, 16000, 32001));
  EXPECT_TRUE(ReadAudioBytesWithin(bytes, {}, {.max_seconds = 2.001}).ok());
  const auto audio = ReadAudioBytesWithin(bytes, {}, {.max_seconds = 2});
  ASSERT_FALSE(audio.ok());
  EXPECT_EQ(audio.status().code(), StatusCode::kResourceExhausted);
}

// Flipped bytes: any answer but a crash, an endless loop or a sample that is not finite.
TEST(ReadAudioTest, DamagedFilesDoNoHarm) {
  std::mt19937 random(8);
  int refused = 0;
  for (const int format : {kWav16, SF_FORMAT_WAV | SF_FORMAT_FLOAT, SF_FORMAT_FLAC | SF_FORMAT_PCM_16,
                           SF_FORMAT_OGG | SF_FORMAT_OPUS, SF_FORMAT_OGG | SF_FORMAT_VORBIS,
                           SF_FORMAT_MPEG | SF_FORMAT_MPEG_LAYER_III, SF_FORMAT_AIFF | SF_FORMAT_PCM_16}) {
    const Bytes whole = MakeSoundFile(format, 16000, 1, Sine(440, 0.25, 16000, 8000));
    for (int round = 0; round < 100; ++round) {
      Bytes bytes = whole;
      for (int flips = 0; flips < 4; ++flips) {
        const size_t range = round % 2 == 0 ? std::min<size_t>(bytes.size(), 100) : bytes.size();
        bytes[random() % range] = std::byte(random());
      }
      const auto audio = ReadAudioBytesWithin(bytes, {}, {.max_seconds = 60});
      refused += !audio.ok();
      if (!audio.ok()) continue;
      for (const float sample : audio->samples) ASSERT_TRUE(std::isfinite(sample));
    }
  }
  EXPECT_GT(refused, 50);
}

}  // namespace
}  // namespace ting
