import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import org.opensearch.common.settings.Settings;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;
import org.opensearch.plugins.Plugin;
import org.opensearch.transport.Netty4Plugin;

/** One node that answers HTTP, from library jars: FOLDER HTTP-PORT TRANSPORT-PORT [SETTING=VALUE …]. */
public final class OpenSearchNode extends Node {
  private OpenSearchNode(Settings settings) {
    super(
        InternalSettingsPreparer.prepareEnvironment(settings, Map.of(), null, () -> "test"),
        List.<Class<? extends Plugin>>of(Netty4Plugin.class),
        false);
  }

  public static void main(String[] told) throws Exception {
    Path folder = Path.of(told[0]).toAbsolutePath();
    Files.createDirectories(folder.resolve("config"));
    Settings.Builder settings = Settings.builder();
    settings.put("cluster.name", "howdah-tests").put("node.name", "test").put("path.home", folder.toString());
    settings.put("network.host", "127.0.0.1").put("http.port", told[1]).put("transport.port", told[2]);
    settings.put("http.type", "netty4").put("transport.type", "netty4").put("discovery.type", "single-node");
    // A test's disk may be nearly full, and that is none of its business.
    settings.put("cluster.routing.allocation.disk.threshold_enabled", false);
    for (int i = 3; i < told.length; i++) {
      int equals = told[i].indexOf('=');
      settings.put(told[i].substring(0, equals), told[i].substring(equals + 1));
    }
    OpenSearchNode node = new OpenSearchNode(settings.build());
    node.start();
    CountDownLatch ended = new CountDownLatch(1);
    Runtime.getRuntime().addShutdownHook(new Thread(() -> {
      try {
        node.close();
      } catch (java.io.IOException failed) {
        failed.printStackTrace();
      }
      ended.countDown();
    }));
    ended.await();
  }
}
