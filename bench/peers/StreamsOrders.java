import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import com.fasterxml.jackson.databind.ObjectWriter;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.time.Duration;
import java.util.Locale;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.common.errors.SerializationException;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.Serializer;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StoreQueryParameters;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.QueryableStoreTypes;
import org.apache.kafka.streams.state.ReadOnlyKeyValueStore;

/**
 * StreamsOrders ADDRESS TOPIC EVENTS APP FOLDER GUARANTEE JOB [COMMIT_MS]: the job on Kafka Streams with this
 * guarantee, RocksDB store, everything else at its defaults; the job "outputs" sends an event for each order, too. It
 * waits for a line before it adds up its store.
 */
public final class StreamsOrders {
    public record Order(String order_id, String sku, int qty, double price, double ts, String note) {}

    public record Reserved(String order_id, int qty) {}

    private static volatile boolean hasBegun;

    private static double cpuSeconds() {
        var system = (com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        return system.getProcessCpuTime() / 1e9;
    }

    private static void begin() {
        hasBegun = true;
        System.out.printf(Locale.ROOT, "{\"first\": %.6f, \"cpu\": %.3f}%n", System.nanoTime() / 1e9, cpuSeconds());
    }

    public static void main(String[] arguments) throws Exception {
        final String address = arguments[0], topic = arguments[1], application = arguments[3];
        final long events = Long.parseLong(arguments[2]);
        final Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, application);
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, address);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, arguments[4]);
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, arguments[5]);
        if (arguments.length > 7) settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, arguments[7]);

        final ObjectReader reader = new ObjectMapper().readerFor(Order.class);
        final Deserializer<Order> decode = (name, bytes) -> {
            if (!hasBegun) begin();
            try {
                return reader.readValue(bytes);
            } catch (IOException problem) {
                throw new SerializationException(problem);
            }
        };
        final Serializer<Order> neverUsed = (name, order) -> { throw new UnsupportedOperationException(); };
        final AtomicLong seen = new AtomicLong();
        final CountDownLatch all = new CountDownLatch(1);
        final StreamsBuilder builder = new StreamsBuilder();
        final KStream<String, Order> orders =
                builder.stream(topic, Consumed.with(Serdes.String(), Serdes.serdeFrom(neverUsed, decode)));
        if (arguments[6].equals("outputs")) {
            orders.mapValues(order -> new Reserved(order.order_id(), order.qty()))
                    .to(application + ".reservations", Produced.with(Serdes.String(), reservedSerde()));
        }
        orders.groupByKey()
                .aggregate(() -> 0L, (sku, order, total) -> {
                    if (seen.incrementAndGet() == events) all.countDown();
                    return total + order.qty();
                }, Materialized.<String, Long, KeyValueStore<Bytes, byte[]>>as("quantities")
                        .withKeySerde(Serdes.String()).withValueSerde(Serdes.Long()));

        final KafkaStreams streams = new KafkaStreams(builder.build(settings), settings);
        streams.start();
        all.await();
        System.out.printf(Locale.ROOT, "{\"last\": %.6f, \"last_cpu\": %.3f}%n", System.nanoTime() / 1e9, cpuSeconds());
        System.in.read();
        System.out.printf("{\"sum\": %d}%n", storedSum(streams));
        System.in.read();
        streams.close(Duration.ofSeconds(10));
    }

    private static Serde<Reserved> reservedSerde() {
        final ObjectWriter writer = new ObjectMapper().writerFor(Reserved.class);
        final Serializer<Reserved> encode = (name, reserved) -> {
            try {
                return writer.writeValueAsBytes(reserved);
            } catch (JsonProcessingException problem) {
                throw new SerializationException(problem);
            }
        };
        return Serdes.serdeFrom(encode, (name, bytes) -> { throw new UnsupportedOperationException(); });
    }

    private static long storedSum(KafkaStreams streams) {
        final ReadOnlyKeyValueStore<String, Long> quantities = streams.store(
                StoreQueryParameters.fromNameAndType("quantities", QueryableStoreTypes.keyValueStore()));
        long sum = 0;
        try (KeyValueIterator<String, Long> rows = quantities.all()) {
            while (rows.hasNext()) sum += rows.next().value;
        }
        return sum;
    }
}
